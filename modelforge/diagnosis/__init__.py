"""Diagnosis of runs: causes of failure, fixes, and a verdict on the result."""
