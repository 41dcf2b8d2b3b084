"""Training on several GPUs: processes that train together, and what each of them does."""
