"""Additions to the Transformers and TRL trainers: checkpoints, OOM recovery and batch size."""
