"""Masks that were drawn in a browser, on their way back: unpacked while they arrive, a bit a voxel, and no further than
the grid they were drawn on.

A page offers a place for one mask of a grid, and gets a path, which it hands to the viewer in its session's browser.
Paths are as those of `volume_server`: random, and open only to that browser, with Streamlit's token, while the session
is connected. Each takes one whole mask; one that broke off may be sent again. What came lies in the session's state
until its page takes it.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
import weakref
import zlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import streamlit as st
from starlette.requests import Request
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard.services.upload_receiver import (
    SLOWEST,
    STALL_SECONDS,
    Receive,
    Send,
    answer,
    browser_of,
    has_token,
    is_open_to,
)

OFFERS, CAME = "mask-offers", "masks-that-came"
"""In the session: what it has offered last in each place of its pages, and offers that were answered before that."""
_PIECE = 2**20
"""Bytes that are read, and voxels that are unpacked, at once."""
_OVERHEAD = 2**20
"""Bytes that a packed mask may be longer than its voxels."""


@dataclass(eq=False)
class _Offer:
    shape: tuple[int, int, int]
    key: Hashable
    session: str
    browser: str
    """As `volume_server` has it."""
    ticket: str = field(default_factory=lambda: uuid.uuid4().hex)
    busy: bool = False
    bits: np.ndarray | None = None
    """What came: the voxels in C order, 8 a byte."""


_OFFERED: weakref.WeakValueDictionary[str, _Offer] = weakref.WeakValueDictionary()
"""By ticket, while a session has it."""


def offer(place: str, key: Hashable, shape: tuple[int, int, int], base: str = "") -> str:
    """Path to which this session's browser may send one mask, instead of what was in this place before.

    The same `key` in the same place keeps its path until a mask has come.

    Parameters
    ----------
    shape : (Z, Y, X)
    base : what stands before every path of this dashboard
    """
    context = get_script_run_ctx()
    offers: dict[str, _Offer] = st.session_state.setdefault(OFFERS, {})
    last = offers.get(place)
    if last is not None and last.bits is not None:
        st.session_state.setdefault(CAME, {})[place] = last  # until its page asks for it
    if last is None or last.key != key or last.bits is not None:
        browser = browser_of(st.context.cookies)
        offers[place] = last = _Offer(shape, key, context.session_id if context else "", browser)
        _OFFERED[last.ticket] = last
    return f"{base}/_covseg/mask/{last.ticket}"


def take(place: str) -> np.ndarray | None:
    """The mask that has come to a place, (Z, Y, X) uint8 0/1, once; None if none has."""
    offers: dict[str, _Offer] = st.session_state.get(OFFERS, {})
    came: dict[str, _Offer] = st.session_state.get(CAME, {})
    found = came.pop(place, None)
    if place in offers and offers[place].bits is not None:
        found = offers.pop(place)
    if found is None or found.bits is None:
        return None
    return np.unpackbits(found.bits, count=prod(found.shape)).reshape(found.shape)


async def receive_mask(ticket: str, request: Request, receive: Receive, send: Send) -> None:
    """Answer a browser that sends a mask."""
    announced = request.headers.get("content-length", "")
    if request.method != "PUT":
        await answer(send, 405, f"Method {request.method}, expected PUT")
    elif not has_token(request):
        await answer(send, 403, "XSRF token missing or invalid")
    elif (found := _find(ticket, request)) is None:
        await answer(send, 404, "Nobody waits for this mask any more, or it is another browser's")
    elif found.busy or found.bits is not None:
        await answer(send, 409, "This mask was sent already")
    elif not re.fullmatch("[0-9]{1,18}", announced):
        await answer(send, 411, "Expected a Content-Length")
    elif int(announced) > _longest(found):
        await answer(send, 413, f"{announced} bytes, expected at most {_longest(found)}")
    else:
        await _take_in(found, receive, send)


def _find(ticket: str, request: Request) -> _Offer | None:
    """What a session that is still there has offered to this browser."""
    found = _OFFERED.get(ticket)
    return found if found and is_open_to(request, found.session, found.browser) else None


def _longest(found: _Offer) -> int:
    return prod(found.shape) + _OVERHEAD


async def _take_in(found: _Offer, receive: Receive, send: Send) -> None:
    found.busy = True
    try:
        bits = await _unpacked(receive, _Voxels(prod(found.shape)), _longest(found))
        if bits is not None:
            found.bits = bits
            await answer(send, 200, "taken")
    except TimeoutError:
        await answer(send, 408, f"Nothing came for {STALL_SECONDS:g} s, or too little")
    except (ValueError, zlib.error) as error:
        await answer(send, 400, str(error))
    finally:
        found.busy = False


async def _unpacked(receive: Receive, voxels: _Voxels, longest: int) -> np.ndarray | None:
    """The request's body as bits; None if the browser went away. Raises ValueError for what is no mask of the grid."""
    waiting, total, more, begun = bytearray(), 0, True, time.monotonic()
    while more:
        left = STALL_SECONDS + total / SLOWEST - (time.monotonic() - begun)
        message = await asyncio.wait_for(receive(), min(STALL_SECONDS, left))
        if message["type"] == "http.disconnect":
            return None
        waiting += message.get("body", b"")
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
        if total > longest:
            raise ValueError(f"more than {longest} bytes came")
        if len(waiting) >= _PIECE or not more:
            await asyncio.to_thread(voxels.add, bytes(waiting))
            waiting.clear()
    return voxels.whole()


class _Voxels:
    """Gzip of bytes 0 and 1, unpacked a piece at a time, and never more of it than the grid has voxels."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._come = 0
        self._bits = np.zeros(-(-count // 8), np.uint8)
        self._rest = np.zeros(0, np.uint8)
        self._inflate = zlib.decompressobj(31)

    def add(self, packed: bytes) -> None:
        """The next bytes; raises ValueError or `zlib.error`."""
        if self._inflate.eof and packed:
            raise ValueError("something follows the mask")
        while not self._inflate.eof:
            piece = self._inflate.decompress(packed, _PIECE)
            self._put(piece)
            packed = self._inflate.unconsumed_tail
            if not packed and len(piece) < _PIECE:
                break
        if self._inflate.unused_data:
            raise ValueError("something follows the mask")

    def whole(self) -> np.ndarray:
        """The bits; raises ValueError if voxels are missing."""
        if not self._inflate.eof or self._come != self._count:
            raise ValueError(f"{self._come} voxels, expected {self._count}")
        place = (self._come - len(self._rest)) // 8
        self._bits[place:] = np.packbits(self._rest)
        return self._bits

    def _put(self, piece: bytes) -> None:
        values = np.frombuffer(piece, np.uint8)
        self._come += len(values)
        if self._come > self._count:
            raise ValueError(f"more than the {self._count} voxels of the scan")
        if values.size and values.max() > 1:
            raise ValueError(f"a voxel of {values.max()}, expected 0 or 1")
        start = self._come - len(values) - len(self._rest)
        values = np.concatenate((self._rest, values))
        full = len(values) // 8 * 8
        self._bits[start // 8 : (start + full) // 8] = np.packbits(values[:full])
        self._rest = values[full:]
