"""LoRA adapters and their initialization."""
