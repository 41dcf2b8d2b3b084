"""The worker of a growing model: its stages, what each begins with and leaves behind."""
