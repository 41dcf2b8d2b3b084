"""The page of one run: progress, charts, result and actions."""
