"""Repair datasets in a copy; originals are never changed."""
