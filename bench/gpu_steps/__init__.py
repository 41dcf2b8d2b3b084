"""The steps of `bench/gpu_session.py`, each a program of its own, and what they share."""
