"""The Runs page: the list of runs and the queue."""
