"""Find, load, mix and split the sources of a run."""
