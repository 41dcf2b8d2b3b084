"""The training process: `python -m modelforge.train RUN_FOLDER`."""
