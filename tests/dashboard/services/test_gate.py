"""Strange web pages are not let in, by whatever name they call the dashboard; everybody else is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from h11 import LocalProtocolError
from streamlit import config

from dashboard.services import gate

Options = Callable[..., None]


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Options:
    """`options(address="0.0.0.0")`: settings of Streamlit; the others are as the project has them."""

    def options(
        address: str = "127.0.0.1", hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), browser: str = ""
    ) -> None:
        values = {
            "server.address": address,
            "server.allowedHosts": list(hosts),
            "server.corsAllowedOrigins": list(origins),
            "browser.serverAddress": browser or "localhost",
        }
        known = config.get_option
        monkeypatch.setattr(config, "get_option", lambda name: values[name] if name in values else known(name))
        monkeypatch.setattr(config, "is_manually_set", lambda name: bool(browser))

    options()
    return options


def ask(kind: str = "http", method: str = "GET", **headers: str) -> tuple[list[dict[str, Any]], bool]:
    """What is answered, and whether the dashboard itself was asked."""
    asked = False
    sent: list[dict[str, Any]] = []

    async def dashboard(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked = True
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {"type": kind, "method": method, "path": "/_stcore/stream"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]  # type: ignore[assignment]
    asyncio.run(gate.Gate(dashboard)(scope, receive, send))
    return sent, asked


@pytest.mark.parametrize("host", ["localhost", "evil.com"])
def test_a_request_that_breaks_off_its_form_fills_no_log(options: Options, host: str) -> None:
    """The server has answered it by then, and raises when the dashboard does so, too."""

    async def dashboard(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def closed(message: Any) -> None:
        raise LocalProtocolError("can't handle event type Response when role=SERVER and state=MUST_CLOSE")

    scope = {"type": "http", "method": "PUT", "path": "/", "headers": [(b"host", host.encode())]}
    asyncio.run(gate.Gate(dashboard)(scope, closed, closed))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_dns_rebinding_is_not_let_in(options: Options, kind: str) -> None:
    sent, asked = ask(kind, host="evil.com:8501", origin="http://evil.com:8501")
    assert not asked
    assert sent[0].get("status", sent[0].get("code")) in (403, 1008)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1:8000", "http://localhost:8501", "http://127.0.0.1", "null", "http://evil.com", "file://"],
)
def test_a_page_of_another_origin_is_not_let_in(options: Options, kind: str, origin: str) -> None:
    """Another port is another program, perhaps another user's."""
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert not ask(kind, method, host="127.0.0.1:8501", origin=origin)[1]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8501", "[::1]:8501"])
def test_the_computer_itself_is_let_in_on_any_port(options: Options, host: str) -> None:
    assert ask("websocket", host=host, origin=f"http://{host}")[1]
    assert ask(host=host)[1]


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.com",
        "localhost.evil.com",
        "localhost@evil.com",
        "evil.com/localhost",
        "localhost:x",
        "a;b",
        "192.0.2.7",
    ],
)
def test_other_hosts_are_not(options: Options, host: str) -> None:
    assert not ask(host=host)[1]


def test_two_hosts_or_none_are_not(options: Options) -> None:
    assert gate.refusal(None, None)
    assert gate.refusal("localhost, evil.com", None)


def test_on_a_network_addresses_and_the_computers_name_are_let_in(options: Options) -> None:
    """As a colleague types them; a name that somebody else may point here is not."""
    options(address="0.0.0.0")
    for host in ("192.0.2.7:8501", "[2001:db8::1]:8501", socket.gethostname(), "localhost:8501"):
        assert not gate.refusal(host, f"http://{host}"), host
    assert gate.refusal("evil.com", "http://evil.com")
    assert gate.refusal("192.0.2.7:8501", "http://192.0.2.7:8000")


def test_what_was_typed_as_address_is_let_in(options: Options) -> None:
    options(address="ct.example.org")
    assert not gate.refusal("ct.example.org:8501", "http://ct.example.org:8501")
    options(browser="ct.example.org")
    assert not gate.refusal("ct.example.org", "https://ct.example.org")
    assert gate.refusal("evil.com", None)


def test_allowed_hosts_are_the_whole_list(options: Options) -> None:
    options(hosts=("ct.example.org", "*.lab.example.org"))
    assert not gate.refusal("ct.example.org", "https://ct.example.org")
    assert not gate.refusal("a.lab.example.org:8501", None)
    assert gate.refusal("localhost", None)
    assert gate.refusal("evil.com", None)


def test_origins_of_the_setting_are_let_in_as_they_are_written(options: Options) -> None:
    options(origins=("https://portal.example.org",))
    assert not gate.refusal("localhost:8501", "https://portal.example.org")
    assert gate.refusal("localhost:8501", "https://portal.example.org:8000")


def test_default_ports_are_the_same_as_none(options: Options) -> None:
    assert not gate.refusal("localhost:80", "http://localhost")
    assert not gate.refusal("localhost", "https://localhost:443")


@pytest.mark.parametrize("host", ["localhost:8501", "evil.com"])
def test_all_that_is_served_is_protected(options: Options, host: str) -> None:
    """Refusals as well."""
    headers = dict(ask(host=host)[0][0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "frame-ancestors 'self'" in policy
    assert "default-src 'self'" in policy
    assert headers[b"x-frame-options"] == b"SAMEORIGIN"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"referrer-policy"] == b"same-origin"
