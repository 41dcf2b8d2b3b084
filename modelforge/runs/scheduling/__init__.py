"""When runs start: the order of the waiting ones, and start times."""
