"""Trial runs: a few real steps that measure the memory and time of a run."""
