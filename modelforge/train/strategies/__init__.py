"""One module per training method: tokenize, build the trainer, train, save."""
