"""Holds a service's documentation page to needing nothing but the service."""

import re

import httpx


async def require_offline(client: httpx.AsyncClient) -> None:
    """Check that ``/docs`` is there, and that all it loads comes from the service itself."""
    page = await client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert any(one.endswith(".js") for one in loaded)
    for one in loaded:
        assert one.startswith("/")
        assert (await client.get(one)).status_code == 200
