"""Volumes on their way to the browser: whole, to nobody else, not longer than the session, memory flat."""

from __future__ import annotations

import asyncio
import gc
import gzip
import hashlib
import json
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string

from covseg_core.errors import DatasetError
from dashboard.services import upload_receiver, volume_server
from dashboard.services.volume_server import OFFERS, Volume, offer

TOKEN = generate_xsrf_token_string()
VOXELS = np.random.default_rng(0).integers(-1000, 1000, (5, 8, 7)).astype(np.int16)


class Context:
    """The session that runs a page."""

    def __init__(self, session: str) -> None:
        self.session_id = session


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One session's state; it is the only one that is connected."""
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(volume_server, "get_script_run_ctx", lambda: Context("session"))
    monkeypatch.setattr(upload_receiver, "is_active", lambda session: session == "session")
    return state


def volume(voxels: np.ndarray = VOXELS) -> Volume:
    return Volume(voxels.shape, voxels.dtype, voxels.__getitem__)


class Answer:
    """What a browser gets, and how it behaves."""

    def __init__(self, leaves_after: int | None = None, takes_nothing: bool = False) -> None:
        self.status, self.headers, self.body, self.pieces = 0, dict[str, str](), b"", 0
        self.ended = False
        self._leaves_after, self._takes_nothing = leaves_after, takes_nothing
        self._left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        if self._takes_nothing:
            await asyncio.sleep(3600)
        self.body += message["body"]
        self.pieces += 1
        self.ended = not message.get("more_body", False)
        if self.pieces == self._leaves_after:
            self._left.set()
            await asyncio.sleep(0.01)


async def ask(path: str, answer: Answer, method: str = "GET", **headers: str) -> Answer:
    path, _, query = path.partition("?")
    given = {"x-xsrftoken": TOKEN, "cookie": f"_streamlit_xsrf={TOKEN}", "accept-encoding": "gzip, br"} | headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
    }

    async def after(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    await volume_server.Server(after)(scope, answer.receive, answer.send)
    return answer


def get(path: str, **more: str) -> Answer:
    return asyncio.run(ask(path, Answer(), **more))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, ">i2"])
def test_the_voxels_come_as_they_are_and_packed(dtype: Any) -> None:
    """Little-endian, whatever the computer or the file; a browser reads nothing else."""
    voxels = np.abs(VOXELS).astype(dtype)
    answer = get(offer("place", 1, volume(voxels)))
    assert answer.status == 200
    assert answer.ended
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"] == "no-store", "a scan must not lie in a browser's cache"
    assert gzip.decompress(answer.body) == voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()


def test_who_does_not_unpack_gets_them_plain() -> None:
    answer = get(offer("place", 1, volume()), **{"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.body == VOXELS.tobytes()


@pytest.mark.parametrize(("query", "first"), [("?from=3", 3), ("?from=0", 0), ("?from=8", 3), ("?from=-1", 0), ("", 0)])
def test_the_plane_that_is_looked_at_comes_first(query: str, first: int) -> None:
    """Every plane comes once, in a circle from there."""
    answer = get(offer("place", 1, volume()) + query)
    assert gzip.decompress(answer.body) == np.roll(VOXELS, -first, axis=0).tobytes()


def test_a_range_is_not_served_and_said_not_to_be() -> None:
    answer = get(offer("place", 1, volume()), range="bytes=0-9")
    assert (answer.status, answer.headers["accept-ranges"]) == (200, "none")
    assert gzip.decompress(answer.body) == VOXELS.tobytes()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-xsrftoken": ""}, 403),
        ({"cookie": ""}, 403),
        ({"x-xsrftoken": generate_xsrf_token_string()}, 403),
    ],
)
def test_without_the_token_there_is_nothing(headers: dict[str, str], status: int) -> None:
    """Another page that knows the path could else have the browser fetch it."""
    answer = get(offer("place", 1, volume()), **headers)
    assert answer.status == status
    assert VOXELS.tobytes()[:8] not in answer.body


def test_another_browser_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with the path and a token of its own."""

    class Seen:
        cookies = {"_streamlit_xsrf": generate_xsrf_token_string()}  # noqa: RUF012 - as Streamlit has it

    monkeypatch.setattr(st, "context", Seen())
    path = offer("place", 1, volume())
    assert get(path).status == 404
    Seen.cookies["_streamlit_xsrf"] = TOKEN
    assert get(offer("place", 2, volume())).status == 200


def test_nobody_guesses_a_path() -> None:
    path = offer("place", 1, volume())
    ticket = path.rpartition("/")[2]
    assert len(ticket) == 32
    assert get(path.replace(ticket, "0" * 32)).status == 404
    assert get(path[:-1]).status == 299, "not a path of ours: Streamlit's to answer"


def test_it_ends_with_the_session(session: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path = offer("place", 1, volume())
    monkeypatch.setattr(upload_receiver, "is_active", lambda session: False)
    assert get(path).status == 404, "the browser is not connected"
    monkeypatch.setattr(upload_receiver, "is_active", lambda session: True)
    assert get(path).status == 200
    session.clear()
    gc.collect()
    assert get(path).status == 404, "the session is over"
    assert not volume_server._OFFERED


def test_another_scan_takes_the_place_and_the_same_one_keeps_its_path(session: dict[str, Any]) -> None:
    """A hundred scans one after the other are one offer; a slider that moves does not send the scan again."""
    path = offer("place", "first", volume())
    assert offer("place", "first", volume()) == path
    for number in range(100):
        last = offer("place", number, volume())
    gc.collect()
    assert len(session[OFFERS]) == 1
    assert get(path).status == 404
    assert get(last).status == 200
    assert len(volume_server._OFFERED) == 1


def test_memory_does_not_grow_with_the_volume() -> None:
    """400 MB on its way to ten colleagues would else be 4 GB."""
    planes = [np.full((512, 512), z, np.int16) for z in range(2)]
    path = offer("place", 1, Volume((400, 512, 512), np.dtype(np.int16), lambda z: planes[z % 2]))
    answer = Answer()
    tracemalloc.start()
    asyncio.run(ask(path, answer))
    peak = tracemalloc.get_traced_memory()[1] - len(answer.body)
    tracemalloc.stop()
    assert len(zlib.decompress(answer.body, 31)) == 400 * 512 * 512 * 2
    assert peak < 16 * 2**20


def test_a_browser_that_leaves_ends_it() -> None:
    """The rest is neither read nor packed."""
    read = []

    def plane(z: int) -> np.ndarray:
        read.append(z)
        return np.zeros((1024, 1024), np.int16)

    path = offer("place", 1, Volume((100, 1024, 1024), np.dtype(np.int16), plane))
    asyncio.run(ask(path, Answer(leaves_after=2)))
    assert len(read) < 10
    assert not volume_server._UNDER_WAY


def test_a_browser_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds nobody up meanwhile."""
    monkeypatch.setattr(volume_server, "STALL_SECONDS", 0.2)
    noise = np.random.default_rng(0).integers(-999, 999, (3, 1024, 1024)).astype(np.int16)
    path = offer("place", 1, volume(noise))
    stalled, quick = Answer(takes_nothing=True), Answer()

    async def both() -> None:
        begun = time.monotonic()
        slow = asyncio.create_task(ask(path, stalled))
        await ask(path, quick)
        assert time.monotonic() - begun < 30
        await slow

    asyncio.run(both())
    assert gzip.decompress(quick.body) == noise.tobytes()
    assert not stalled.ended
    assert not volume_server._UNDER_WAY


def test_one_browser_does_not_take_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_server, "STALL_SECONDS", 0.3)
    noise = np.random.default_rng(0).integers(-999, 999, (3, 1024, 1024)).astype(np.int16)
    path = offer("place", 1, volume(noise))

    async def many() -> int:
        waiting = [asyncio.create_task(ask(path, Answer(takes_nothing=True))) for _ in range(volume_server.MOST)]
        await asyncio.sleep(0)
        refused = await ask(path, Answer())
        await asyncio.gather(*waiting)
        return refused.status

    assert asyncio.run(many()) == 429
    assert get(path).status == 200


def test_a_scan_that_is_gone_is_said_to_be() -> None:
    def plane(z: int) -> np.ndarray:
        if z:
            raise DatasetError("scan", "is gone", "the scan")
        return VOXELS[0]

    answer = get(offer("place", 1, Volume((5, 8, 7), VOXELS.dtype, plane)) + "?from=1")
    assert (answer.status, "is gone" in answer.body.decode()) == (410, True)


def test_what_breaks_off_is_shorter_than_it_should_be() -> None:
    """The viewer counts; a volume with the rest empty would look like air."""

    def plane(z: int) -> np.ndarray:
        if z == 3:
            raise DatasetError("scan", "is gone", "the scan")
        return np.zeros((1024, 1024), np.int16)

    answer = get(offer("place", 1, Volume((9, 1024, 1024), VOXELS.dtype, plane)))
    assert answer.ended
    assert len(gzip.decompress(answer.body)) == 3 * 2 * 2**20


def test_only_get() -> None:
    assert get(offer("place", 1, volume()), method="POST").status == 405


def test_the_library_is_the_file_of_its_checksum_and_may_be_kept_for_ever() -> None:
    """A library that was changed on the way, or by hand, must not reach a browser."""
    folder = Path(volume_server.__file__).parents[1] / "components" / "volume_viewer" / "vendor"
    note = json.loads((folder / "niivue.json").read_text(encoding="utf-8"))
    content = (folder / "niivue.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == note["sha256"]
    assert note["version"] == "0.69.0"
    assert f'version: "{note["version"]}"'.encode() in content
    licence = (folder / "niivue.LICENSE").read_text(encoding="utf-8")
    assert "BSD 2-Clause" in licence
    assert note["licence"] == "BSD-2-Clause"
    answer = get(volume_server.library(), **{"x-xsrftoken": "", "cookie": ""})
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert note["sha256"][:16] in volume_server.library()
    assert gzip.decompress(answer.body) == content
    assert get(volume_server.library(), **{"accept-encoding": ""}).body == content
