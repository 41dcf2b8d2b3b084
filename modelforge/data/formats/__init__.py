"""Read data files: format, compression and encoding."""
