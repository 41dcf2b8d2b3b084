"""Memory of a run: estimated from the model's dimensions, or from a trace of the training step."""
