"""Requests that no browser sends, on the routes of uploads, pages and files."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string
from websockets.asyncio.client import connect

from campaigns.row import Row
from campaigns.sessions import dashboard, open_page
from campaigns.trainings import import_phantoms, until
from covseg_core.paths import data_root
from covseg_core.temporary import temporary_root

WHAT = "a request with a random method, path, query, length, boundary, token or body is sent to a dashboard: no status"
WHAT += " 500, no traceback, no file of the computer in the answer, only whole uploads on disk, and pages still open"
FULL, SMALL, SECONDS, TRAINS = 10_000, 100, 2 * 3600, False

PAGES = 100
"""After so many requests a page is opened."""
PATIENCE = 30.0
"""Seconds for an answer."""
LARGEST = 300_000
"""Bytes of a body."""
WORDS = (
    "", ".", "..", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "%00", "a" * 300, "a" * 70_000, "ü", "💥", "%", "%zz", "\\",
    "con", "'\"><script>", "${x}", "{{x}}", "\u202e", "session", "monitor", "compare", "predict", "static", "media",
)  # fmt: skip
NAMES = ('"../../evil"', '""', "ct", '"' + "n" * 5000 + '"', '"\u202e"', '"a\\"b"', '"\0"')
UPLOAD = "/_stcore/upload_file/"
ROUTES = (UPLOAD,) * 9 + ("/_stcore/", "/", "/static/", "/media/", "/component/", "/app/static/", "/monitor/", "//")
METHODS = ("PUT",) * 6 + ("POST", "GET", "GET", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "FIND", "put", "X" * 100)
KEYS = ("dataset", "case", "runs", "experiment", "z", "model", "threshold", "page", "embed", "x" * 50)


def run(count: int, seed: int) -> Row:
    """Against a dashboard of its own, while a session is open."""
    row, log = Row(), data_root() / "dashboard.log"
    import_phantoms()
    statuses: dict[int, int] = {}
    with dashboard(log) as (port, _):
        asyncio.run(_all(port, count, seed, row, statuses))
    row.failures += [f"the dashboard said: {said[-300:]}" for said in _tracebacks(log.read_text(errors="replace"))[:5]]
    row.note = ", ".join(f"{number:,} x {status or 'closed'}" for status, number in sorted(statuses.items()))
    return row


async def _all(port: int, count: int, seed: int, row: Row, statuses: dict[int, int]) -> None:
    async with _session(port) as session:
        taken = 0
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            request, upload = _request(port, session, chance)
            row.count += 1
            try:
                status, body = await asyncio.to_thread(_send, port, request)
            except Exception as error:
                row.failures.append(f"request {number} of seed {seed}: {type(error).__name__}: {error}"[:500])
                continue
            statuses[status] = statuses.get(status, 0) + 1
            taken += upload and 200 <= status < 300
            problem = _problem(status, body, taken)
            if not problem and number % PAGES == PAGES - 1:
                problem = await _page(port, chance)
            if problem:
                row.failures.append(f"request {number} of seed {seed}, {request[:100]!r}: {problem}"[:500])


def _problem(status: int, body: bytes, taken: int) -> str:
    if status == 500 or b"Traceback" in body:
        return f"status {status}: {body[:200]!r}"
    if b"root:x:" in body:
        return "the answer is a file of this computer"
    try:
        until(lambda: _uploads() <= taken, 10)  # what is given up goes a moment later
    except TimeoutError:
        return f"{_uploads()} files of uploads on disk, of {taken} that were taken"
    return ""


def _uploads() -> int:
    """Files on disk."""
    return sum(path.is_file() for root in (data_root() / "uploads", temporary_root()) for path in root.rglob("*"))


def _tracebacks(log: str) -> list[str]:
    """Those that come through our code or Streamlit.

    Where a form breaks off after its head while the answer is under way, uvicorn 0.54 trips over itself, and writes one
    of its own; nobody else notices.
    """
    found = re.findall(r"^Traceback .*?\n(?=[^ \n])[^\n]*", log, re.MULTILINE | re.DOTALL)
    return [said for said in found if re.search(r'File ".*(/dashboard/|/covseg_core/|/streamlit/)', said)]


async def _page(port: int, chance: random.Random) -> str:
    """Why a page does not open, with a query that nobody would type; empty if it does."""
    query = urlencode({chance.choice(KEYS): chance.choice(WORDS)[:2000] for _ in range(chance.randint(0, 4))})
    page = chance.choice(["", "monitor", "compare", "predict"])
    try:
        async with asyncio.timeout(60):
            await open_page(port, page, query, 0)
    except Exception as error:
        return f"page {page or 'first'} with {query[:100]}: {type(error).__name__} {error}"
    return ""


@contextlib.asynccontextmanager
async def _session(port: int) -> AsyncIterator[str]:
    """The id of a session whose browser stays."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    async with connect(address, subprotocols=["streamlit"], max_size=None) as connection:  # type: ignore[list-item]
        await connection.send(BackMsg(rerun_script=ClientState()).SerializeToString())
        async for data in connection:
            message = ForwardMsg.FromString(data)  # type: ignore[arg-type]
            if message.WhichOneof("type") == "new_session":
                yield message.new_session.initialize.session_id
                return


def _request(port: int, session: str, chance: random.Random) -> tuple[bytes, bool]:
    """Its bytes, and whether it goes to where uploads go. Each part is odd now and then, so that others are reached."""

    def odd(usual: str, *others: str) -> str:
        return chance.choice(others) if chance.random() < 0.04 else usual

    method = chance.choice(METHODS)
    path = _path(session, chance)
    boundary = odd("----WebKitFormBoundaryx7Yq", "b", "", "b" * 71, "b" * 5000, "ü", 'b"; x="')
    body = _body(boundary, chance)
    form, token = f"multipart/form-data; boundary={boundary}", generate_xsrf_token_string()
    lengths = [0, len(body) // 2, len(body) + 1, 10**10, 10**30, -1, "", "ten", "1, 1", "+5", "0x10", "٣"]
    headers = {
        "Host": odd(f"127.0.0.1:{port}", "localhost", "evil.com", "", "[::1", "x" * 9000),
        "Connection": "close",
        "Content-Type": odd(form, "text/plain", "", "multipart/", ";"),
        "Content-Length": odd(str(len(body)), *map(str, lengths)),
        "X-Xsrftoken": odd(token, "", "2|a|b|1", "x" * 5000, "é"),
        "Cookie": odd(f"_streamlit_xsrf={token}", "", "_streamlit_xsrf", "=" * 3000, "a=b; " * 300),
        "Origin": odd("", f"http://127.0.0.1:{port}", "http://evil.com", "null", "ü"),
        "Transfer-Encoding": odd("", "chunked", "gzip", "chunked, chunked"),
        "X-" + odd("a", "a" * 1000, "a" * 100_000): "b",
        "Range": odd("", "bytes=0-", "bytes=-1", "bytes=9-1", "lines=1"),
    }
    lines = [f"{method} {path} HTTP/{odd('1.1', '1.0', '2.0', '9')}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value or chance.random() < 0.02]
    return "\r\n".join([*lines, "", ""]).encode() + body, UPLOAD in path and method == "PUT"


def _path(session: str, chance: random.Random) -> str:
    route = chance.choice(ROUTES)
    if route == UPLOAD and chance.random() < 0.8:
        return f"{route}{session}/{chance.choice(['file', 'file', quote(chance.choice(WORDS)[:300]), ''])}"
    parts = [chance.choice(WORDS) for _ in range(chance.choice([1, 2, 3, 30]))]
    if chance.random() < 0.9:  # else the server itself says no
        parts = [part if "%" in part else quote(part) for part in parts]
    path = route + "/".join(parts)[: chance.choice([200, 2000, 100_000])]
    if chance.random() < 0.3:
        query = [f"{chance.choice(KEYS)}={chance.choice(WORDS)}" for _ in range(chance.choice([1, 5, 200]))]
        path += "?" + quote("&".join(query)[:50_000], safe="&=%")
    return path


def _body(boundary: str, chance: random.Random) -> bytes:
    """A form with a file, often with something wrong in it."""
    name = chance.choice(['"ct.nii"', '"a/b/ct.nii"', *NAMES])
    content = chance.randbytes(chance.choice([0, 1, 1000, 100_000]))
    head = f'Content-Disposition: form-data; name="f"; filename={name}\r\nContent-Type: application/octet-stream'
    start = chance.choice(["--"] * 9 + ["", "-", "--\r\n--"]) + boundary
    part = f"{start}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"
    end = f"--{boundary}{chance.choice(['--'] * 9 + ['', '-'])}\r\n"
    body = part * chance.choice([1] * 9 + [0, 2, 50]) + end.encode()
    changed = bytearray(body[:LARGEST])
    if chance.random() < 0.2 and changed:
        for _ in range(chance.choice([1, 10])):
            changed[chance.randrange(min(len(changed), 300))] = chance.randrange(256)
    return bytes(changed)


def _send(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and start of the answer; 0 where the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        found = b""
        waits = _lies(request)
        connection.settimeout(0.3 if waits else PATIENCE)
        try:
            while len(found) < 20_000 and (part := connection.recv(2**16)):
                found += part
        except ConnectionError:
            pass
        except TimeoutError:
            if not waits:
                raise
    status = re.match(rb"HTTP/1\.[01] (\d{3})", found)
    return int(status[1]) if status else 0, found


def _lies(request: bytes) -> bool:
    """Whether it announces more than it has, so that the dashboard rightly waits for the rest."""
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: \+?(\d+)", head)
    chunked = b"\r\nTransfer-Encoding:" in head
    return chunked or (length is not None and int(length[1]) > len(body))
