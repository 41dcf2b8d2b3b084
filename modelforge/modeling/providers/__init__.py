"""Model loaders: Hugging Face Transformers, and Unsloth."""
