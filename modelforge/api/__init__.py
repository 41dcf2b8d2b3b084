"""REST interface: routes, response schemas, server-sent events and their documentation."""
