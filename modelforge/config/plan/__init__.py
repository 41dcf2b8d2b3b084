"""The effective plan of a run on this machine."""
