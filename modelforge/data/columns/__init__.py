"""Detect the columns of a dataset and map them to the parts of a row."""
