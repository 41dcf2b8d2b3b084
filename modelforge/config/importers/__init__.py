"""Files of other systems: read them, and return our settings with a line for each option."""
