"""Torch code shared by training and chat: loading, adapters, tokenizing, generation, metrics."""
