"""Suggested settings: to fit into the memory, and to train faster."""
