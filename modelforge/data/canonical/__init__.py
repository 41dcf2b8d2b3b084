"""Convert rows of every kind to the canonical form that training reads."""
