"""Arithmetic of training from nothing: from a depth to parameters, tokens, FLOPs and steps."""
