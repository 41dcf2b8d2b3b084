"""Sweeps: try values of settings over the queue, within a deadline, and stop what falls behind."""
