"""Training from nothing: the start model, the text as token files, its order, and the trainer."""
