"""Who may ask the dashboard, and what a browser may do with the answers.

The dashboard has no log-in, so a browser's same-origin policy is what keeps other web pages out. DNS rebinding gets
around it: a page of evil.com has its name point to this computer. `Gate` stands before everything else and answers only
requests to hosts it knows, and only those that no page of another origin, another port included, has sent.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from h11 import LocalProtocolError
from streamlit import config
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from dashboard.services.upload_receiver import App, Message, Receive, Scope, Send, answer

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts of whoever sits at this computer, or has a tunnel to it."""

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]", re.IGNORECASE)


class Gate:
    """ASGI middleware; see the top of this module."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        problem = refusal(host, origin)

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_protection(host or "")]}
            await send(message)

        try:
            if not problem:
                await self.app(scope, receive, protected)
            elif scope["type"] == "http":
                await answer(protected, 403, problem)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": problem[:100]})
        except LocalProtocolError:
            pass  # the request broke off its form after the head: the server has said so, and listens no more


def refusal(host: str | None, origin: str | None) -> str:
    """Why a request with these headers gets no answer, in a line; empty if it gets one."""
    if not host_allowed(host):
        return f"Host: {host!r} is not a name of this dashboard; expected localhost or a name in server.allowedHosts"
    if not origin_allowed(origin, host or ""):
        return f"Origin: {origin!r} is another web page; expected one of {host}, or one in server.corsAllowedOrigins"
    return ""


def host_allowed(host: str | None) -> bool:
    """Whether the dashboard goes by this name.

    `server.allowedHosts`, if it is set, is the whole list. Otherwise the dashboard goes by the names of this computer
    for itself, by what was typed as `server.address` or `browser.serverAddress`, and, if it listens to the network, by
    the computer's name and by any address in digits: those cannot be made to point elsewhere.
    """
    if host is None or (split := _split(host)) is None:
        return False
    if config.get_option("server.allowedHosts"):
        return is_host_allowed(host)
    name, _ = split
    address = (config.get_option("server.address") or "").lower()
    known = {*LOCAL, address}
    if config.is_manually_set("browser.serverAddress"):
        known.add(str(config.get_option("browser.serverAddress")).lower())
    if address in LOCAL:
        return name in known
    return name in {*known, socket.gethostname().lower()} or _in_digits(name)


def origin_allowed(origin: str | None, host: str) -> bool:
    """Whether a page of this origin may ask: one of the same host and port, or one in `server.corsAllowedOrigins`.

    Programs send no origin. The scheme is not compared, since a proxy in front may speak https for us.
    """
    if origin is None or origin in {str(known).strip() for known in config.get_option("server.corsAllowedOrigins")}:
        return True
    scheme, found, netloc = origin.partition("://")
    port = _PORTS.get(scheme)
    ours, theirs = _split(host), _split(netloc) if found else None
    if port is None or ours is None or theirs is None:
        return False
    return (ours[0], ours[1] or port) == (theirs[0], theirs[1] or port)


def _split(host: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header; None if it is not one."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    plain = host.removesuffix(f":{port}") if port is not None else host
    if name is None or not _HOST.fullmatch(plain):
        return None
    return name.rstrip("."), port


def _in_digits(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _header(scope: Scope, name: bytes) -> str | None:
    """A header that may come once; one that comes twice is none that we know."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(values) if values else None


def _protection(host: str) -> list[tuple[bytes, bytes]]:
    """Headers of all that is served: no other page may frame it, and nothing is fetched from elsewhere."""
    sockets = f" ws://{host} wss://{host}" if _split(host) else ""  # not all browsers count them as 'self'
    policy = {
        "default-src": "'self'",
        # Streamlit's page has scripts in it, and WebAssembly; its components and plotly's workers are blobs
        "script-src": "'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
        "worker-src": "'self' blob:",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": f"'self' data: blob:{sockets}",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'self'",
    }
    return [
        (b"content-security-policy", "; ".join(f"{name} {value}" for name, value in policy.items()).encode()),
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
    ]
