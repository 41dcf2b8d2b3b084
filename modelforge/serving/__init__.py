"""The API server of a trained model: OpenAI's requests and replies, on a port of its own."""
