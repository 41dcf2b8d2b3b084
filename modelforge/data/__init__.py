"""What it learns from: files to rows, detected and checked."""
