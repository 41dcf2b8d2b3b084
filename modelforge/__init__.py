"""ModelForge without a face: settings, machine, data, preflight, runs and the front door."""

__version__ = "0.1.0"
