"""Merge the adapter of a run into the weights of its base model."""
