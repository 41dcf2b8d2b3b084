"""Rules between settings. Every module of this package adds its rules to the registry."""
