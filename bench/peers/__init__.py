"""Other programs, each in an environment of its own that is made once, outside the repository."""
