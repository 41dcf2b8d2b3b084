"""Trainings by programs of their own, which the worker starts and follows."""
