"""Plan of growing a model stack by stack: stages, adapters, masks and checks."""
