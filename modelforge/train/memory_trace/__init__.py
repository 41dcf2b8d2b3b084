"""Memory trace: the peak memory of a run, computed with its own code on the meta device."""
