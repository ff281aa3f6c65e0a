"""Uploads on their way to disk: content whole, memory flat, nothing left of what was refused."""

from __future__ import annotations

import asyncio
import io
import random
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string

from dashboard.services import upload_receiver

ROUTE = "/_stcore/upload_file/session/file"
BOUNDARY = b"----WebKitFormBoundaryx7Yq"


TOKEN = generate_xsrf_token_string()


@pytest.fixture(autouse=True)
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_receiver, "is_active", lambda session: session == "session")
    monkeypatch.setattr(upload_receiver, "_LEDGER", upload_receiver._Ledger())


class Streamlit:
    """Stands for what comes after: parses the form as Streamlit does, and keeps it."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.name = ""
        self.content = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with Request(scope, receive).form() as form:
            [file] = form.values()
            assert not isinstance(file, str)
            self.name, self.content = file.filename or "", await file.read()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class File:
    """What the page gets from `st.file_uploader`."""

    name = "ct.nii"

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)

    def getvalue(self) -> bytes:
        return self.content

    def read(self, size: int | None = -1, /) -> bytes:
        return self.content


def form(content: bytes, name: str = "ct20/case 1/ct.nii") -> bytes:
    head = f'Content-Disposition: form-data; name="f"; filename="{name}"\r\nContent-Type: application/octet-stream'
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (BOUNDARY, head.encode(), content, BOUNDARY)


def send(after: Any, body: bytes, piece: int = 65536, path: str = ROUTE, gone: bool = False, **headers: str) -> int:
    """PUT a body in pieces; returns the status, 0 if there was no answer."""
    given = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}", "content-length": str(len(body))}
    given |= {"x-xsrftoken": TOKEN, "cookie": f"_streamlit_xsrf={TOKEN}"}
    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (given | headers).items() if value],
    }
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    status = 0

    async def receive() -> dict[str, Any]:
        if not pieces:
            return {"type": "http.disconnect"}
        part = pieces.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(pieces) or gone}

    async def answer(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    asyncio.run(upload_receiver.Receiver(after)(scope, receive, answer))
    return status


def on_disk() -> list[Path]:
    return sorted(upload_receiver.uploads_root().glob("*"))


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_the_content_goes_to_disk_and_streamlit_gets_a_ticket(piece: int) -> None:
    """Whatever the pieces are cut at, and whatever in the content looks like the end of it."""
    content = random.Random(0).randbytes(3000) + b"\r\n--" + BOUNDARY[:-1] + b"\r\n--\r\n"
    after = Streamlit()
    assert send(after, form(content), piece) == 204
    assert after.name == "ct20/case 1/ct.nii"
    assert len(after.content) < 100
    path = upload_receiver.find(File(after.content))
    assert path is not None
    assert path.read_bytes() == content


def test_memory_does_not_grow_with_the_file() -> None:
    """Ten colleagues with a scan of 1 GB each must not bring the computer down."""
    body = form(bytes(64 * 2**20))
    tracemalloc.start()
    send(Streamlit(), body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the pieces of the test's own body are the same size again
    assert peak - len(body) < 16 * 2**20


def test_a_file_that_streamlit_refuses_does_not_stay() -> None:
    """A session that has ended, a forged request."""
    assert send(Streamlit(status=403), form(b"content")) == 403
    assert on_disk() == []


def test_a_browser_that_goes_away_leaves_nothing() -> None:
    assert send(Streamlit(), form(b"content")[:-20], gone=True) == 0
    assert on_disk() == []


@pytest.mark.parametrize("body", [b"no form", form(b"x")[:-10], form(b"one")[: -len(BOUNDARY) - 6] + form(b"two")])
def test_a_form_that_is_not_one_is_refused(body: bytes) -> None:
    assert send(Streamlit(), body) == 400
    assert on_disk() == []


def test_more_than_allowed_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_receiver, "_limit", lambda: 10_000)
    assert send(Streamlit(), form(bytes(20_000)), **{"content-length": "5"}) == 413
    assert on_disk() == []


def test_what_announces_too_much_is_left_to_streamlit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses without reading."""
    monkeypatch.setattr(upload_receiver, "_limit", lambda: 10)
    after = Streamlit(status=413)
    assert send(after, form(b"long enough")) == 413
    assert after.content == b"long enough"


def test_a_full_disk_is_said_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's widget would only spin, or show a number."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 5_000_000))  # type: ignore[attr-defined]
    after = Streamlit()
    assert send(after, form(bytes(3_000_000))) == 204
    with pytest.raises(
        upload_receiver.DatasetError, match=r"^ct\.nii: 3 MB, with 5 MB free on the disk of the dashboard"
    ):
        upload_receiver.find(File(after.content))
    assert on_disk() == []


def test_a_disk_that_fills_up_while_a_file_comes_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(upload_receiver, "open", lambda path, mode: Full(), raising=False)
    after = Streamlit()
    assert send(after, form(bytes(3_000_000))) == 204
    with pytest.raises(upload_receiver.DatasetError, match="No space left on device"):
        upload_receiver.find(File(after.content))
    assert on_disk() == []


def test_what_is_not_taken_can_be_forgotten() -> None:
    after = Streamlit()
    send(after, form(b"content"))
    upload_receiver.forget(File(after.content))
    assert on_disk() == []
    upload_receiver.forget(File(after.content))
    upload_receiver.forget(File(b"a scan, in short"))


def test_other_requests_pass_unchanged() -> None:
    after = Streamlit()
    assert send(after, form(b"content"), path="/elsewhere") == 204
    assert after.content == b"content"


def test_nobody_gets_a_file_by_a_made_up_ticket() -> None:
    """A file whose content looks like a ticket, or a path in it, must not lead to another's upload."""
    secret = upload_receiver.uploads_root() / "secret"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"scan of somebody else")
    assert upload_receiver.find(File(b"covseg upload secret")) is None
    assert upload_receiver.find(File(b"covseg upload ../secret")) is None
    with pytest.raises(upload_receiver.DatasetError, match="again"):
        upload_receiver.find(File(b"covseg upload " + b"0" * 32))


def test_a_small_file_of_its_own_is_no_ticket() -> None:
    assert upload_receiver.find(File(b"a scan, in short")) is None


class Pieces:
    """A body that is sent only if somebody reads it; nothing comes after `stall` pieces."""

    def __init__(self, body: bytes = b"", stall: bool = False) -> None:
        self.body, self.stall, self.read = body, stall, 0

    async def __call__(self) -> dict[str, Any]:
        self.read += 1
        if self.read > 1 and self.stall:
            await asyncio.sleep(30)
        return {"type": "http.request", "body": self.body, "more_body": self.stall}


def put(receive: Pieces, path: str = ROUTE, token: str = TOKEN, boundary: bytes = BOUNDARY, after: Any = None) -> int:
    headers = {"content-type": f"multipart/form-data; boundary={boundary.decode()}", "x-xsrftoken": token}
    headers["cookie"] = f"_streamlit_xsrf={TOKEN}"
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "PUT", "path": path, "query_string": b"", "headers": listed}
    status = 0

    async def answer(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    asyncio.run(upload_receiver.Receiver(after or Streamlit())(scope, receive, answer))
    return status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"path": "/_stcore/upload_file/nobody/file"}, 400),
        ({"token": "made up"}, 403),
        ({"token": ""}, 403),
        ({"boundary": b"b" * 257}, 400),
        ({"boundary": b""}, 400),
    ],
)
def test_strangers_are_refused_before_a_byte_is_read(given: dict[str, Any], status: int) -> None:
    body = Pieces(form(b"content"))
    assert put(body, **given) == status
    assert body.read == 0
    assert on_disk() == []


def refused(after: Streamlit, words: str) -> None:
    with pytest.raises(upload_receiver.DatasetError, match=words):
        upload_receiver.find(File(after.content))


def test_the_reserve_of_the_disk_holds_without_an_announced_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunked upload announces nothing."""
    free = iter([10**12, *[upload_receiver.ROOM + 2_500_000] * 2])
    last = upload_receiver.ROOM + 100
    usage = lambda path: shutil._ntuple_diskusage(1, 1, next(free, last))  # type: ignore[attr-defined] # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", usage)
    after = Streamlit()
    assert send(after, form(bytes(5_000_000)), **{"content-length": "", "transfer-encoding": "chunked"}) == 204
    refused(after, "0 MB free on the disk|210 MB free on the disk")
    assert on_disk() == []


@pytest.mark.parametrize(("name", "words"), [("SESSION_BYTES", "this browser"), ("ALL_BYTES", "wait to be imported")])
def test_quotas_count_what_lies_there(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    """And what is gone counts no more."""
    monkeypatch.setattr(upload_receiver, name, 3_000_000)
    first, second, third = Streamlit(), Streamlit(), Streamlit()
    send(first, form(bytes(2_000_000)))
    send(second, form(bytes(2_000_000)))
    refused(second, words)
    assert len(on_disk()) == 1
    upload_receiver.forget(File(first.content))
    send(third, form(bytes(2_000_000)))
    assert upload_receiver.find(File(third.content)) is not None


def test_what_pages_have_taken_over_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_receiver, "ALL_BYTES", 3_000_000)
    folder = upload_receiver.uploads_root() / "taken" / "upload-taken"
    folder.mkdir(parents=True)
    (folder / "ct.nii").write_bytes(bytes(2_000_000))
    after = Streamlit()
    send(after, form(bytes(2_000_000)))
    refused(after, "wait to be imported")


def test_an_upload_that_stalls_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_receiver, "STALL_SECONDS", 0.2)
    assert put(Pieces(form(b"content")[:50], stall=True)) == 408
    assert on_disk() == []


def test_an_upload_that_trickles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is not a sign of life."""
    monkeypatch.setattr(upload_receiver, "STALL_SECONDS", 0.3)

    class Trickle(Pieces):
        async def __call__(self) -> dict[str, Any]:
            await asyncio.sleep(0.05)
            return {"type": "http.request", "body": b"-", "more_body": True}

    assert put(Trickle()) == 408
    assert on_disk() == []
