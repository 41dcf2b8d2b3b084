"""The result of a run for other computers: without a path of this one, with a model card."""
