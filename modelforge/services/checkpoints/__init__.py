"""Checkpoints of runs that other runs begin with."""
