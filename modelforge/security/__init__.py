"""ASGI middleware: host and origin check, body limit, security headers and password."""
