"""Over the network, as a browser and as a stranger: the headers are there, hinder nothing, strangers get nothing."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
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


def test_an_upload_without_a_session_is_cut_off_at_once(server: Server, data_folder: Path) -> None:
    """It announces 300 MB, sends a part and stalls: the answer comes, the connection ends, nothing is on disk."""
    own = f"127.0.0.1:{server.port}"
    head = [f"PUT /_stcore/upload_file/nobody/file HTTP/1.1\r\nHost: {own}\r\nContent-Length: 300000000"]
    head += ["Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n\r\n" + "x" * 2_000_000]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        try:
            connection.sendall("\r\n".join(head).encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 403")
            while connection.recv(4096):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was ended while we still sent
    assert not list((data_folder / "uploads").glob("*"))
