"""Data: files to rows, rows to examples; detection, checks and repair."""
