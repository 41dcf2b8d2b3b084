"""Why it went so: causes, cures and the verdict, told from what a run has left."""
