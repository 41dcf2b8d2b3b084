"""How the model learns."""
