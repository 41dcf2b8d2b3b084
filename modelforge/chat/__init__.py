"""The chat process: generates replies with a base or trained model."""
