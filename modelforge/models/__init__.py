"""Find models and read their architecture and size without loading them."""
