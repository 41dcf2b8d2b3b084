"""Command line: `modelforge COMMAND`."""
