"""The evaluation process: measures a run against its base model and a prompt with examples."""
