"""Uploads go to disk while they arrive, in pieces of 1 MiB: Streamlit alone would hold each file in memory as a whole.

`Receiver` stands before Streamlit's upload route. It writes the file below `<data>/uploads/` and hands Streamlit the
same request with a short ticket in place of the content, so that sessions, cookies and the widget work as ever. `find`
turns the ticket back into the file. Tickets are random, so that nobody can name another's file.

Nothing is read before it is known that a session of the dashboard asks. What a session has under way, and all of them
together, is limited; the reserve of the disk holds whatever was announced; who sends nothing is cut off.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from streamlit import config, runtime
from streamlit.web.server.server_util import is_xsrf_enabled
from streamlit.web.server.starlette.starlette_app_utils import decode_xsrf_token_string, validate_xsrf_token
from streamlit.web.server.starlette.starlette_server_config import XSRF_COOKIE_NAME

from covseg_core.data.reading import archives
from covseg_core.errors import DatasetError
from covseg_core.paths import data_root

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROOM = archives.RESERVE
"""Bytes on disk that an upload leaves free."""

SESSION_BYTES = 32 * 2**30
"""Bytes that one browser session may have under way and not yet taken over by its page."""
ALL_BYTES = 128 * 2**30
"""Bytes of everything that was uploaded and not yet imported, of all sessions."""
STALL_SECONDS = 60.0
"""How long an upload may send nothing."""
SLOWEST = 8 * 2**10
"""Bytes a second on average, after the first `STALL_SECONDS`, below which an upload is ended."""

_ROUTE = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+")
_BOUNDARY = 70
"""Bytes of a boundary at most, by RFC 2046."""
_TICKET = re.compile(rb"covseg upload ([0-9a-f]{32})")
_REFUSAL = b"covseg has no room: "
_LONGEST = 200
"""Bytes of a ticket or a refusal."""
_PIECE = 2**20


class UploadedFile(Protocol):
    """A file as `st.file_uploader` hands it over."""

    name: str
    size: int

    def getvalue(self) -> bytes: ...

    def read(self, size: int | None = -1, /) -> bytes: ...


def uploads_root() -> Path:
    """Folder of everything that was uploaded and not yet imported."""
    return data_root() / "uploads"


def find(file: UploadedFile) -> Path | None:
    """Where the content of an uploaded file was put; None if the file itself holds it.

    Raises
    ------
    DatasetError : there was no room for it, or it was removed since
    """
    value = file.getvalue() if file.size < _LONGEST else b""
    if value.startswith(_REFUSAL):
        raise DatasetError(file.name, value.removeprefix(_REFUSAL).decode(errors="replace"), "room on disk")
    ticket = _TICKET.fullmatch(value)
    if ticket is None:
        return None
    path = uploads_root() / ticket[1].decode()
    if not path.is_file():
        raise DatasetError(file.name, "the upload is gone", "the file again")
    return path


def forget(file: UploadedFile) -> None:
    """Remove the content of an uploaded file from disk, if it is there."""
    try:
        path = find(file)
    except DatasetError:
        return
    if path is not None:
        path.unlink(missing_ok=True)


class Receiver:
    """ASGI middleware; see the top of this module."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        request, session = Request(scope), route[1]
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary, announced = options.get(b"boundary", b""), request.headers.get("content-length", "0")
        if not has_token(request):
            await answer(send, 403, "XSRF token missing or invalid")
        elif not is_active(session):
            await answer(send, 400, "Invalid session_id")
        elif not re.fullmatch("[0-9]{1,18}", announced):
            await answer(send, 400, "Invalid Content-Length header")
        elif int(announced) > _limit():
            await self.app(scope, receive, send)  # which refuses it by its length
        elif kind != b"multipart/form-data" or not 0 < len(boundary) <= _BOUNDARY:
            await answer(send, 400, f"Expected a form with a boundary of 1 to {_BOUNDARY} bytes")
        else:
            part = _Part(uploads_root() / uuid.uuid4().hex, session, boundary)
            await self._receive(scope, receive, send, part, int(announced))

    async def _receive(self, scope: Scope, receive: Receive, send: Send, part: _Part, length: int) -> None:
        kept = False
        try:
            await asyncio.to_thread(part.open, length)
            if await _pour(receive, part):
                words = _REFUSAL + part.refusal.encode() if part.refusal else f"covseg upload {part.path.name}".encode()
                taken = await self._hand_over(scope, send, part.with_content(words[: _LONGEST - 1]))
                kept = taken and not part.refusal
        except _TooLarge:
            await answer(send, 413, "File too large")
        except TimeoutError:
            await answer(send, 408, f"Nothing came for {STALL_SECONDS:g} s, or too little")
        except (FormParserError, ValueError) as error:
            await answer(send, 400, str(error))
        finally:
            part.close()
            if not kept:
                part.remove()

    async def _hand_over(self, scope: Scope, send: Send, body: bytes) -> bool:
        """Give Streamlit the request with the ticket; returns whether it took it."""
        framing = (b"content-length", b"transfer-encoding")
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in framing]
        scope = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
        taken = False

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def watch(message: Message) -> None:
            nonlocal taken
            if message["type"] == "http.response.start":
                taken = message["status"] < 300
            await send(message)

        await self.app(scope, receive, watch)
        return taken


class _TooLarge(Exception):
    """More came than was announced or is allowed."""


class _Ledger:
    """Bytes on disk by session, of files that have a ticket or will have one."""

    def __init__(self) -> None:
        self._all: dict[Path, tuple[str, int]] = {}
        self._others = 0
        self._lock = threading.Lock()

    def begin(self, path: Path, session: str) -> None:
        """A file that comes; those that pages have taken over since are theirs no longer."""
        taken = sum(file.stat().st_size for file in path.parent.glob("*/**/*") if file.is_file())
        with self._lock:
            self._all = {old: entry for old, entry in self._all.items() if old.exists()}
            self._all[path] = (session, 0)
            self._others = taken

    def room(self, path: Path, size: int) -> str:
        """Why `size` more bytes must not be written to the file, in words; empty if they may, and they count then."""
        with self._lock:
            session, before = self._all.get(path, ("", 0))
            own = sum(bytes for owner, bytes in self._all.values() if owner == session)
            every = self._others + sum(bytes for _, bytes in self._all.values())
            if own + size > SESSION_BYTES:
                return f"this browser has {SESSION_BYTES / 1e6:,.0f} MB under way, as much as it may"
            if every + size > ALL_BYTES:
                return f"{ALL_BYTES / 1e6:,.0f} MB of uploads wait to be imported, as much as may"
            self._all[path] = (session, before + size)
        free = shutil.disk_usage(path.parent).free
        return "" if size + ROOM <= free else f"{free / 1e6:,.0f} MB free on the disk of the dashboard"

    def end(self, path: Path) -> None:
        """The file is gone."""
        with self._lock:
            self._all.pop(path, None)


_LEDGER = _Ledger()


class _Part:
    """The one part of the form: its headers in memory, its content in a file.

    Where there is no room the rest is read and dropped: a browser listens only when it has sent everything.
    """

    def __init__(self, path: Path, session: str, boundary: bytes) -> None:
        self.path = path
        self.refusal = ""
        """Why the content is not kept."""
        self._session = session
        self._boundary = boundary
        self._headers: list[list[bytes]] = []
        self._parts = 0
        self._whole = False
        self._file: BinaryIO | None = None
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_part_data": self._content,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def open(self, length: int) -> None:
        """Make the file, if there is room for what is announced [bytes]; nothing need be."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _LEDGER.begin(self.path, self._session)
            free = shutil.disk_usage(self.path.parent).free
            if length + ROOM > free:
                self.refusal = f"{length / 1e6:,.0f} MB, with {free / 1e6:,.0f} MB free on the disk of the dashboard"
            else:
                self._file = open(self.path, "xb")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            self._refuse(error)

    def remove(self) -> None:
        """Nothing of it stays on disk."""
        self.path.unlink(missing_ok=True)
        _LEDGER.end(self.path)

    def write(self, data: bytes) -> None:
        """The next piece of the form."""
        self._parser.write(data)

    def finish(self) -> None:
        """Raises unless the form was whole and held one file."""
        self._parser.finalize()
        if self._parts != 1 or not self._whole:
            raise ValueError(f"Expected 1 whole file, but got {self._parts}{'' if self._whole else ', cut short'}")
        self.close()

    def close(self) -> None:
        """Close the file, if it is open."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            self._refuse(error)

    def with_content(self, content: bytes) -> bytes:
        """The form again, with other content."""
        lines = [b"--" + self._boundary, *(b": ".join(header) for header in self._headers), b"", content]
        return b"\r\n".join([*lines, b"--" + self._boundary + b"--", b""])

    def _begin_part(self) -> None:
        self._parts += 1

    def _end(self) -> None:
        self._whole = True

    def _begin_header(self) -> None:
        self._headers.append([b"", b""])

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._headers[-1][0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[-1][1] += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        try:
            if self._file is not None and not (problem := _LEDGER.room(self.path, end - start)):
                self._file.write(memoryview(data)[start:end])
            elif self._file is not None:
                self.refusal = problem
        except OSError as error:
            self._refuse(error)
        if self.refusal and self._file is not None:
            self.close()
            self.remove()

    def _refuse(self, error: OSError) -> None:
        self.refusal = self.refusal or error.strerror or str(error)


async def _pour(receive: Receive, part: _Part) -> bool:
    """The request's body into the file; False if the browser went away. Raises TimeoutError if it is too slow."""
    waiting, total, more, begun = bytearray(), 0, True, time.monotonic()
    while more:
        spent = time.monotonic() - begun
        left = STALL_SECONDS + total / SLOWEST - spent
        message = await asyncio.wait_for(receive(), min(STALL_SECONDS, left))
        if message["type"] == "http.disconnect":
            return False
        waiting += message.get("body", b"")
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
        if total > _limit():
            raise _TooLarge
        if len(waiting) >= _PIECE or not more:
            await asyncio.to_thread(part.write, bytes(waiting))  # a slow disk must not keep other browsers waiting
            waiting.clear()
    await asyncio.to_thread(part.finish)
    return True


async def answer(send: Send, status: int, text: str) -> None:
    """Answer in a line, and close the connection: the rest of what is refused is not read."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def browser_of(cookies: Mapping[str, str]) -> str:
    """What Streamlit has this browser keep against forged requests: the same in all tabs, and known to nobody else.

    The cookie is masked anew each time a page is loaded; the token behind the mask stays.
    """
    cookie = cookies.get(XSRF_COOKIE_NAME, "")
    token, _ = decode_xsrf_token_string(cookie)
    return token.hex() if token else cookie


def is_open_to(request: Request, session: str, browser: str) -> bool:
    """Whether what a session has offered to its browser is that browser's to ask for, while the session is there."""
    return is_active(session) and (not browser or browser == browser_of(request.cookies))


def has_token(request: Request) -> bool:
    """As Streamlit looks, which does so only once we have read everything."""
    given = request.headers.get("x-xsrftoken"), request.cookies.get(XSRF_COOKIE_NAME)
    return not is_xsrf_enabled() or validate_xsrf_token(*given)


def is_active(session: str) -> bool:
    """Whether a browser with this session is connected."""
    return runtime.exists() and runtime.get_instance().is_active_session(session)


def _limit() -> int:
    """Largest request [bytes]: Streamlit's limit of a file, and room for the form around it."""
    return int(config.get_option("server.maxUploadSize")) * 2**20 + 2**16
