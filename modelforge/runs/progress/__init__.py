"""Progress of a run in time: metric series and curves, durations of steps, the time left."""
