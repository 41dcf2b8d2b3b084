"""OpenAI's API for files and fine-tuning: a translation of requests and runs, at /v1."""
