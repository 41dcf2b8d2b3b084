"""Options of other systems about models that are trained from nothing."""
