"""Callbacks of the trainers: events, monitors, GPU limits and trackers."""
