"""How it gets ready: the stages from a bare Python to a working app. Standard library only."""
