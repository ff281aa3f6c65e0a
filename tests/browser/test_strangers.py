"""Over the network, as a browser and as a stranger: the headers are there, hinder nothing, strangers get nothing."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open, Server


def handshake(port: int, host: str, origin: str) -> int:
    """Status of a WebSocket that is asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Host": host, "Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    connection.request("GET", "/_stcore/stream", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_strangers_get_nothing_and_pages_everything(visit: Open, server: Server, models: list[Run]) -> None:
    """A policy that blocks a script, a picture or a socket is an error on the console, which fails any browser test."""
    own = f"127.0.0.1:{server.port}"
    assert handshake(server.port, own, f"http://{own}") == 101
    assert handshake(server.port, "evil.com", "http://evil.com") == 403
    assert handshake(server.port, own, f"http://127.0.0.1:{server.port + 1}") == 403
    user = visit("monitor?runs=first-dice")
    user.settles()
    expect(user.main.locator(".js-plotly-plot .scatterlayer").first).to_be_visible()
    user.go("Compare")
    user.settles()
    answer = user.page.request.get(server.url)
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
