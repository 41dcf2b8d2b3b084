"""Which library loads and drives the model."""
