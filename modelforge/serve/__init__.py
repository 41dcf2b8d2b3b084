"""The talker: a base or tuned model that answers, in a process of its own."""
