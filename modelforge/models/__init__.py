"""The models there are: which one is meant, its shape and size, and what the Hub offers."""
