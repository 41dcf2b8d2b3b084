"""The talker: chat with a base or tuned model, in a process of its own."""
