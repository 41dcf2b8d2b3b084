"""MCP server: ModelForge as tools and resources of a program that talks to a language model."""
