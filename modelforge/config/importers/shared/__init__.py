"""Options that several systems have, by subject."""
