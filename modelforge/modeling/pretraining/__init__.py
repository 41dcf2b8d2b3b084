"""Models that are trained from nothing: building them, their tokenizer and bits per byte."""
