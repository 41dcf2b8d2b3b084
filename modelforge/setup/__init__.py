"""Set-up from a bare Python to a working app. Standard library only."""
