"""The export process: adapters, merged models and GGUF files, each tested against the run."""
