"""Uploads go to disk while they arrive, in pieces of 1 MiB: Streamlit alone would hold each file in memory as a whole.

`Receiver` stands before Streamlit's upload route. It writes the file below `<data>/uploads/` and hands Streamlit the
same request with a short ticket in place of the content, so that sessions, cookies and the widget work as ever. `find`
turns the ticket back into the file. Tickets are random, so that nobody can name another's file.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from streamlit import config

from covseg_core.errors import DatasetError
from covseg_core.paths import data_root

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROOM = 200 * 2**20
"""Bytes on disk that an upload leaves free."""

_ROUTE = "/_stcore/upload_file/"
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
        if scope["type"] == "http" and scope["method"] == "PUT" and _ROUTE in scope["path"]:
            headers = {name.lower(): value for name, value in scope["headers"]}
            kind, options = parse_options_header(headers.get(b"content-type"))
            length = int(headers.get(b"content-length", b"0"))
            if kind == b"multipart/form-data" and b"boundary" in options and length <= _limit():
                await self._receive(scope, receive, send, options[b"boundary"], length)
                return
        await self.app(scope, receive, send)

    async def _receive(self, scope: Scope, receive: Receive, send: Send, boundary: bytes, length: int) -> None:
        name = uuid.uuid4().hex
        path = uploads_root() / name
        part = _Part(path, boundary, length)
        kept = False
        try:
            if await _pour(receive, part):
                ticket = _REFUSAL + part.refusal.encode() if part.refusal else f"covseg upload {name}".encode()
                taken = await self._hand_over(scope, send, part.with_content(ticket[: _LONGEST - 1]))
                kept = taken and not part.refusal
        except _TooLarge:
            await answer(send, 413, "File too large")
        except (FormParserError, ValueError) as error:
            await answer(send, 400, str(error))
        finally:
            part.close()
            if not kept:
                path.unlink(missing_ok=True)

    async def _hand_over(self, scope: Scope, send: Send, body: bytes) -> bool:
        """Give Streamlit the request with the ticket; returns whether it took it."""
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
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


class _Part:
    """The one part of the form: its headers in memory, its content in a file.

    Where there is no room the rest is read and dropped: a browser listens only when it has sent everything.
    """

    def __init__(self, path: Path, boundary: bytes, length: int) -> None:
        self.refusal = ""
        """Why the content is not kept."""
        self._boundary = boundary
        self._headers: list[list[bytes]] = []
        self._parts = 0
        self._whole = False
        self._file: BinaryIO | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if length + ROOM > free:
                self.refusal = f"{length / 1e6:,.0f} MB, with {free / 1e6:,.0f} MB free on the disk of the dashboard"
            else:
                self._file = open(path, "xb")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            self._refuse(error)
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_part_data": self._content,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

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
            if self._file is not None:
                self._file.write(memoryview(data)[start:end])
        except OSError as error:
            self._refuse(error)
            self.close()

    def _refuse(self, error: OSError) -> None:
        self.refusal = self.refusal or error.strerror or str(error)


async def _pour(receive: Receive, part: _Part) -> bool:
    """The request's body into the file; False if the browser went away."""
    waiting, total, more = bytearray(), 0, True
    while more:
        message = await receive()
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


def _limit() -> int:
    """Largest request [bytes]: Streamlit's limit of a file, and room for the form around it."""
    return int(config.get_option("server.maxUploadSize")) * 2**20 + 2**16
