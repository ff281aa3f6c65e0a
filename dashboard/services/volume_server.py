"""Volumes on their way to the viewer in a browser: plane by plane from where they are kept, packed while they leave.

A page offers a volume and gets a path, which it hands to the viewer in its session's browser. Paths are random, and are
answered only while that session is connected, to its browser, and with the token that Streamlit asks uploads for. The
offer lies in the session's state and ends with it; nothing else holds it. It has no voxels of its own, but the way to a
plane.

No volume is ever whole in memory for this: a browser that takes nothing stalls its own answer, which is cut off after
a while, and one that is gone ends it. `Server` also hands out the viewer's library, which is no secret, and takes masks
that were drawn there, see `mask_receiver`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from isal import igzip, isal_zlib
from starlette.requests import Request
from streamlit import config
from streamlit.runtime.scriptrunner import get_script_run_ctx

from covseg_core.errors import CovsegError
from dashboard.services import mask_receiver
from dashboard.services.upload_receiver import App, Receive, Scope, Send, answer, browser_of, has_token, is_open_to

OFFERS = "volume-offers"
"""In the session: what it has offered last in each place of its pages."""
STALL_SECONDS = 60.0
"""How long a browser may take nothing of an answer."""
MOST = 6
"""Answers under way for one session; further ones are refused."""

_ROUTE = re.compile(
    r"/_covseg/(?:volume/(?P<ticket>[0-9a-f]{32})|mask/(?P<mask>[0-9a-f]{32})|library/[0-9a-f]{16}/niivue\.js)$"
)
_LIBRARY = Path(__file__).resolve().parents[1] / "components" / "volume_viewer" / "vendor"
_PIECE = 2**20
"""Bytes of planes that are read and packed at once."""
_LEVEL = 0
"""Of ISA-L, the quickest: the way to the browser is mostly short."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Planes of one shape, fetched one at a time, by any thread."""

    shape: tuple[int, int, int]
    """(Z, Y, X)."""
    dtype: np.dtype[Any]
    plane: Callable[[int], np.ndarray]
    """z -> (Y, X), RAS+; raises `CovsegError` if it is not there any more."""


@dataclass(eq=False)
class _Offer:
    volume: Volume
    key: Hashable
    session: str
    browser: str
    """What Streamlit has this browser keep against forged requests; empty if it keeps none."""
    ticket: str = field(default_factory=lambda: uuid.uuid4().hex)


_OFFERED: weakref.WeakValueDictionary[str, _Offer] = weakref.WeakValueDictionary()
"""By ticket, while a session has it."""
_UNDER_WAY: dict[str, int] = {}
"""Answers by session; only the server's own thread writes to it."""


def offer(place: str, key: Hashable, volume: Volume) -> str:
    """Path at which this session's browser gets the volume, instead of what was in this place of its pages before.

    The same `key` in the same place is the same volume, and keeps its path: the browser need not fetch it again.
    """
    context = get_script_run_ctx()
    offers: dict[str, _Offer] = st.session_state.setdefault(OFFERS, {})
    last = offers.get(place)
    if last is None or last.key != key:
        browser = browser_of(st.context.cookies)
        offers[place] = last = _Offer(volume, key, context.session_id if context else "", browser)
        _OFFERED[last.ticket] = last
    return f"{_base()}/_covseg/volume/{last.ticket}"


def offer_return(place: str, key: Hashable, shape: tuple[int, int, int]) -> str:
    """Path to which this session's browser may send a mask of (Z, Y, X) voxels; see `mask_receiver`."""
    return mask_receiver.offer(place, key, shape, _base())


def take_returned(place: str) -> np.ndarray | None:
    """The mask that has come to a place, (Z, Y, X) uint8 0/1, once; None if none has."""
    return mask_receiver.take(place)


def library() -> str:
    """Path of the viewer's library; another version has another path, so that browsers may keep it for ever."""
    return f"{_base()}/_covseg/library/{_digest()[:16]}/niivue.js"


class Server:
    """ASGI middleware; see the top of this module."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.search(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        packed = re.search(r"\bgzip\b", request.headers.get("accept-encoding", "")) is not None
        if route["mask"] is not None:
            await mask_receiver.receive_mask(route["mask"], request, receive, send)
        elif request.method != "GET":
            await answer(send, 405, f"Method {request.method}, expected GET")
        elif route["ticket"] is None:
            await _send_library(send, packed)
        elif not has_token(request):
            await answer(send, 403, "XSRF token missing or invalid")
        elif (found := _find(route["ticket"], request)) is None:
            await answer(send, 404, "There is no such volume any more, or it is another browser's")
        elif _UNDER_WAY.get(found.session, 0) >= MOST:
            await answer(send, 429, f"{MOST} volumes are on their way to this browser already")
        else:
            await _counted(found, _first(request, found.volume.shape[0]), packed, receive, send)


def _find(ticket: str, request: Request) -> _Offer | None:
    """What a session that is still there has offered to this browser."""
    found = _OFFERED.get(ticket)
    return found if found and is_open_to(request, found.session, found.browser) else None


def _first(request: Request, planes: int) -> int:
    """The plane that is sent first: those after it follow, then those from the lowest on."""
    wanted = request.query_params.get("from", "0")
    return int(wanted) % planes if re.fullmatch("[0-9]{1,6}", wanted) else 0


async def _counted(found: _Offer, first: int, packed: bool, receive: Receive, send: Send) -> None:
    _UNDER_WAY[found.session] = _UNDER_WAY.get(found.session, 0) + 1
    gone = asyncio.create_task(_gone(receive))
    try:
        await _send_volume(found.volume, first, packed, gone, send)
    finally:
        gone.cancel()
        left = _UNDER_WAY.pop(found.session) - 1
        if left:
            _UNDER_WAY[found.session] = left


async def _send_volume(volume: Volume, first: int, packed: bool, gone: asyncio.Task[None], send: Send) -> None:
    """The planes, little-endian and in C order; what cannot be read ends the answer early, which its length tells."""
    planes, rows, columns = volume.shape
    dtype = volume.dtype.newbyteorder("<")
    together = max(1, _PIECE // (rows * columns * dtype.itemsize))
    pack = isal_zlib.compressobj(_LEVEL, wbits=31) if packed else None

    def piece(start: int) -> bytes:
        zs = [(first + step) % planes for step in range(start, min(start + together, planes))]
        data = b"".join(np.ascontiguousarray(volume.plane(z), dtype).tobytes() for z in zs)
        return data if pack is None else pack.compress(data)

    try:
        content = await asyncio.to_thread(piece, 0)
    except (CovsegError, OSError) as error:
        await answer(send, 410, str(error))
        return
    headers = [(b"content-type", b"application/octet-stream"), (b"cache-control", b"no-store")]
    headers += [(b"accept-ranges", b"none"), (b"vary", b"accept-encoding")]
    headers += [(b"content-encoding", b"gzip")] if packed else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(together, planes + together, together):
        if gone.done():
            return
        try:
            await asyncio.wait_for(_send_piece(send, content), STALL_SECONDS)
            content = await asyncio.to_thread(piece, start) if start < planes else b""
        except TimeoutError:
            return
        except (CovsegError, OSError):
            break
    await send({"type": "http.response.body", "body": b"" if pack is None else pack.flush()})


async def _send_piece(send: Send, content: bytes) -> None:
    if content:
        await send({"type": "http.response.body", "body": content, "more_body": True})


async def _gone(receive: Receive) -> None:
    """Until the browser has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_library(send: Send, packed: bool) -> None:
    body = await asyncio.to_thread(_packed_library if packed else _plain_library)
    headers = [(b"content-type", b"text/javascript; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"public, max-age=31536000, immutable"), (b"vary", b"accept-encoding")]
    headers += [(b"content-encoding", b"gzip")] if packed else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@cache
def _packed_library() -> bytes:
    return igzip.compress(_plain_library(), 3)


def _plain_library() -> bytes:
    content = (_LIBRARY / "niivue.js").read_bytes()
    if hashlib.sha256(content).hexdigest() != _digest():
        raise CovsegError("niivue.js", "is not the file of the checksum in niivue.json", "`make niivue`")
    return content


@cache
def _digest() -> str:
    return str(json.loads((_LIBRARY / "niivue.json").read_text(encoding="utf-8"))["sha256"])


def _base() -> str:
    """What stands before every path of this dashboard."""
    base = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""
