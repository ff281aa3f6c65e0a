"""Masks on their way from a browser: those that a page waits for, of its grid, from its browser, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import gzip
import tracemalloc
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string

from dashboard.services import mask_receiver, upload_receiver, volume_server
from dashboard.services.mask_receiver import OFFERS
from dashboard.services.volume_server import offer_return, take_returned

TOKEN = generate_xsrf_token_string()
SHAPE = (5, 7, 9)
MASK = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8)
PACKED = gzip.compress(MASK.tobytes())


class Context:
    """The session that runs a page."""

    def __init__(self, session: str) -> None:
        self.session_id = session


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One session's state; it is the only one that is connected."""
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(mask_receiver, "get_script_run_ctx", lambda: Context("session"))
    monkeypatch.setattr(upload_receiver, "is_active", lambda session: session == "session")
    return state


class Browser:
    """What a browser sends, in pieces, and what it is told."""

    def __init__(self, *pieces: bytes, leaves: bool = False, stalls: bool = False) -> None:
        self.pieces, self.leaves, self.stalls = list(pieces), leaves, stalls
        self.read, self.status, self.text = 0, 0, ""

    async def receive(self) -> dict[str, Any]:
        if not self.pieces and self.leaves:
            return {"type": "http.disconnect"}
        if not self.pieces and self.stalls:
            await asyncio.sleep(3600)
        body = self.pieces.pop(0) if self.pieces else b""
        self.read += len(body)
        return {"type": "http.request", "body": body, "more_body": bool(self.pieces) or self.leaves or self.stalls}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.text += message["body"].decode()


async def ask(path: str, browser: Browser, method: str = "PUT", **headers: str) -> Browser:
    length = str(sum(map(len, browser.pieces)))
    given = {"x-xsrftoken": TOKEN, "cookie": f"_streamlit_xsrf={TOKEN}", "content-length": length} | headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
    }

    async def after(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    await volume_server.Server(after)(scope, browser.receive, browser.send)
    return browser


def put(path: str, *pieces: bytes, **more: Any) -> Browser:
    return asyncio.run(ask(path, Browser(*pieces), **more))


@pytest.mark.parametrize("size", [1, 7, 10**6], ids=["byte by byte", "in odd pieces", "at once"])
def test_a_mask_comes_as_it_was_drawn(size: int) -> None:
    path = offer_return("place", 1, SHAPE)
    assert take_returned("place") is None
    browser = put(path, *(PACKED[start : start + size] for start in range(0, len(PACKED), size)))
    assert (browser.status, browser.text) == (200, "taken")
    mask = take_returned("place")
    assert mask is not None
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, MASK)
    assert take_returned("place") is None, "once"


@pytest.mark.parametrize("voxels", [1, 8, 2**20 - 1, 2**20, 3 * 2**20 + 5])
def test_a_mask_of_any_size_comes_whole(voxels: int) -> None:
    """Pieces end in the middle of a byte of bits."""
    mask = np.random.default_rng(1).integers(0, 2, (1, 1, voxels)).astype(np.uint8)
    path = offer_return("place", 1, (1, 1, voxels))
    assert put(path, gzip.compress(mask.tobytes(), 1)).status == 200
    found = take_returned("place")
    assert found is not None
    assert np.array_equal(found, mask)


@pytest.mark.parametrize(
    "headers", [{"x-xsrftoken": ""}, {"cookie": ""}, {"x-xsrftoken": generate_xsrf_token_string()}]
)
def test_without_the_token_nothing_is_read(headers: dict[str, str]) -> None:
    """Another page could else have the browser send a mask of its own."""
    browser = put(offer_return("place", 1, SHAPE), PACKED, **headers)
    assert (browser.status, browser.read) == (403, 0)
    assert take_returned("place") is None


def test_another_browser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with the path and a token of its own."""

    class Seen:
        cookies = {"_streamlit_xsrf": generate_xsrf_token_string()}  # noqa: RUF012 - as Streamlit has it

    monkeypatch.setattr(st, "context", Seen())
    browser = put(offer_return("place", 1, SHAPE), PACKED)
    assert (browser.status, browser.read) == (404, 0)
    Seen.cookies["_streamlit_xsrf"] = TOKEN
    assert put(offer_return("place", 2, SHAPE), PACKED).status == 200


def test_nobody_guesses_a_path_and_it_ends_with_the_session(
    session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = offer_return("place", 1, SHAPE)
    assert put(path.replace(path.rpartition("/")[2], "0" * 32), PACKED).status == 404
    with monkeypatch.context() as patch:
        patch.setattr(upload_receiver, "is_active", lambda session: False)
        assert put(path, PACKED).status == 404, "the browser is not connected"
    session.clear()
    gc.collect()
    assert put(path, PACKED).status == 404, "the session is over"
    assert not mask_receiver._OFFERED


def test_each_path_takes_one_mask() -> None:
    path = offer_return("place", 1, SHAPE)
    assert offer_return("place", 1, SHAPE) == path, "until one has come"
    assert put(path, PACKED).status == 200
    again = put(path, gzip.compress(bytes(MASK.size)))
    assert (again.status, again.read) == (409, 0)
    found = take_returned("place")
    assert found is not None
    assert np.array_equal(found, MASK)
    other = offer_return("place", 1, SHAPE)
    assert other != path
    gc.collect()
    assert put(path, PACKED).status == 404
    assert put(other, PACKED).status == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (gzip.compress(MASK.tobytes()[:-1]), "314 voxels, expected 315"),
        (PACKED[:-9], "expected 315"),
        (b"", "0 voxels, expected 315"),
        (gzip.compress(MASK.tobytes() + b"\0"), "more than the 315 voxels"),
        (gzip.compress(bytes([2]) * MASK.size), "a voxel of 2, expected 0 or 1"),
        (PACKED + PACKED, "something follows the mask"),
        (PACKED + b"x", "something follows the mask"),
        (MASK.tobytes(), "incorrect header check"),
        (PACKED[:-8] + b"\0" * 8, "incorrect data check"),
    ],
    ids=[
        "too short",
        "cut off",
        "nothing",
        "too long",
        "other values",
        "twice",
        "with a tail",
        "not packed",
        "damaged",
    ],
)
def test_what_is_no_mask_of_the_grid_is_refused_and_may_be_sent_again(body: bytes, says: str) -> None:
    path = offer_return("place", 1, SHAPE)
    browser = put(path, body)
    assert browser.status == 400
    assert says in browser.text
    assert take_returned("place") is None
    assert put(path, PACKED).status == 200


def test_a_bomb_is_unpacked_no_further_than_the_grid() -> None:
    """A gigabyte of zeros is a megabyte; a few of them at once would be the end of the dashboard."""
    bomb = gzip.compress(bytes(128 * 2**20), 1)
    path = offer_return("place", 1, (4, 512, 512))
    tracemalloc.start()
    browser = put(path, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (browser.status, "more than the 1048576 voxels" in browser.text) == (400, True)
    assert peak < 16 * 2**20


def test_what_says_that_it_is_too_long_is_not_read() -> None:
    path = offer_return("place", 1, SHAPE)
    browser = put(path, PACKED, **{"content-length": str(2**31)})
    assert (browser.status, browser.read) == (413, 0)
    assert put(path, PACKED, **{"content-length": "-1"}).status == 411
    assert put(path, PACKED, **{"content-length": ""}).status == 411
    lying = put(path, *[bytes(2**18)] * 8, **{"content-length": "5"})
    assert lying.status == 400
    assert lying.read <= 2**20 + MASK.size + 2**18


def test_a_browser_that_leaves_or_stalls_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_receiver, "STALL_SECONDS", 0.2)
    path = offer_return("place", 1, SHAPE)
    left = asyncio.run(ask(path, Browser(PACKED[:20], leaves=True)))
    assert left.status == 0
    stalled = asyncio.run(ask(path, Browser(PACKED[:20], stalls=True)))
    assert stalled.status == 408
    assert put(path, PACKED).status == 200


def test_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_receiver, "STALL_SECONDS", 0.3)
    path = offer_return("place", 1, SHAPE)

    async def both() -> Browser:
        first = asyncio.create_task(ask(path, Browser(PACKED[:20], stalls=True)))
        await asyncio.sleep(0.05)
        second = await ask(path, Browser(PACKED))
        await first
        return second

    assert asyncio.run(both()).status == 409


def test_only_put_and_only_here() -> None:
    path = offer_return("place", 1, SHAPE)
    assert put(path, PACKED, method="POST").status == 405
    assert put(path, b"", method="GET").status == 405
    assert put(path[:-1], PACKED).status == 299, "not a path of ours: Streamlit's to answer"
    volume = volume_server.offer("place", 1, volume_server.Volume(SHAPE, np.dtype(np.uint8), MASK.__getitem__))
    assert put(volume, PACKED).status == 405, "a volume's path takes nothing"


def test_what_came_is_there_though_the_page_has_offered_again() -> None:
    """A page that is drawn anew offers first, and asks then."""
    assert put(offer_return("place", 1, SHAPE), PACKED).status == 200
    path = offer_return("place", 1, SHAPE)
    found = take_returned("place")
    assert found is not None
    assert np.array_equal(found, MASK)
    assert take_returned("place") is None
    other = 1 - MASK
    assert put(path, gzip.compress(other.tobytes())).status == 200
    offer_return("place", 1, SHAPE)
    found = take_returned("place")
    assert found is not None
    assert np.array_equal(found, other)


def test_another_work_takes_the_place(session: dict[str, Any]) -> None:
    path = offer_return("place", 1, SHAPE)
    offer_return("place", 2, SHAPE)
    gc.collect()
    assert put(path, PACKED).status == 404
    assert len(session[OFFERS]) == 1
