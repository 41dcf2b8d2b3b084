"""An MCP client of the official SDK, connected to the server of a home."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp")


class Tools:
    """Calls tools and returns their structured results."""

    def __init__(self, client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments):
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content[0].text
        content = result.structured_content
        return content.get("result", content) if set(content) == {"result"} else content

    async def refusal(self, tool: str, **arguments) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.content
        return result.content[0].text

    async def text(self, uri: str) -> str:
        return (await self.client.read_resource(uri)).contents[0].text
