"""Downloads, from a real server on this machine: what has a name has the right content."""

from __future__ import annotations

import hashlib
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covseg_core.data.library import download as module
from covseg_core.data.library.download import SOURCES, Source, download
from covseg_core.errors import DownloadError, SettingError

FILES = {"scans.zip": bytes(range(256)) * 12_000, "masks.zip": b"mask" * 1000}
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
LARGE = "scans.zip"


class Server(http.server.ThreadingHTTPServer):
    """Serves `FILES`; the first part of the path says what goes wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.faults = 0
        """How many of the next answers break off in the middle."""

    def url(self, how: str = "ok") -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        _, how, name = self.path.split("/")
        content = FILES[name]
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.server.requests.append(f"{name} {start}")
        if how == "missing":
            self.send_error(404)
            return
        if how == "page":
            content = b"<html>Please log in</html>"
        elif how == "flipped":
            content = content[:-1] + b"?"
        if how == "whole":
            start = 0
        self.send_response(206 if start else 200)
        if how != "unsized":
            self.send_header("Content-Length", str(10**18 if how == "huge" else len(content) - start))
        self.end_headers()
        part = content[start:]
        if self.server.faults and name == LARGE:
            self.server.faults -= 1
            part = part[: len(part) // 2]
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _small_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "zenodo", Source("test files", "CC0", "http://127.0.0.1:9/never", HASHES))
    monkeypatch.setattr(module, "_WAIT", 0.01)


def left(data_folder: Path) -> set[str]:
    return {path.name for path in (data_folder / "downloads").iterdir()} - {".lock"}


def test_files_arrive_whole_and_with_progress(server: Server, data_folder: Path) -> None:
    """The bar must end at 100 % and never go back within a file."""
    seen: list[tuple[int, int]] = []
    files = download("zenodo", lambda done, total: seen.append((done, total)), server.url())
    assert files == [data_folder / "downloads" / name for name in FILES]
    assert {file.name: file.read_bytes() for file in files} == FILES
    assert left(data_folder) == set(FILES)
    large = [done for done, total in seen if total == len(FILES[LARGE])]
    assert large == sorted(large)
    assert len(large) > 5
    assert large[-1] == len(FILES[LARGE])


def test_verified_files_are_not_fetched_again(server: Server, data_folder: Path) -> None:
    """A gigabyte over a slow line, once; also if the user put the file there by hand."""
    (data_folder / "downloads").mkdir(parents=True)
    (data_folder / "downloads" / LARGE).write_bytes(FILES[LARGE])
    download("zenodo", base_url=server.url())
    download("zenodo", base_url=server.url())
    assert server.requests == ["masks.zip 0"]


def test_a_file_with_wrong_content_is_fetched_again(server: Server, data_folder: Path) -> None:
    """What a browser left behind half done is not taken for the data set."""
    (data_folder / "downloads").mkdir(parents=True)
    (data_folder / "downloads" / LARGE).write_bytes(FILES[LARGE][:1000])
    assert {file.name: file.read_bytes() for file in download("zenodo", base_url=server.url())} == FILES


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "404 Client Error: Not Found"),
        ("flipped", "content with another SHA-256"),
        ("page", "content with another SHA-256"),
        ("huge", "MiB to come"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(server: Server, data_folder: Path, how: str, says: str) -> None:
    """A changed file, a log-in page of a hotel's network, a moved record, a full disk: one line each, no debris."""
    with pytest.raises(DownloadError) as error:
        download("zenodo", base_url=server.url(how))
    assert says in str(error.value)
    assert left(data_folder) == set()


def test_no_server_is_one_line_that_says_where_to_put_the_file(data_folder: Path) -> None:
    """Offline users can bring the file on a stick."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(DownloadError) as error:
        download("zenodo", base_url=url)
    assert str(error.value) == (
        f"{url}/{LARGE}: no connection, or it broke: Connection refused; "
        f"expected a network connection, or the file in {data_folder / 'downloads'}"
    )
    assert left(data_folder) == set()


@pytest.mark.parametrize("how", ["ok", "whole"])
def test_a_connection_that_breaks_is_taken_up_again(server: Server, how: str) -> None:
    """Over a bad line a gigabyte never arrives in one piece; servers that only send whole files work as well."""
    server.faults = 1
    files = download("zenodo", base_url=server.url(how))
    received = len(FILES[LARGE]) // 2 // module._CHUNK * module._CHUNK
    assert server.requests[:2] == [f"{LARGE} 0", f"{LARGE} {received}"]
    assert files[0].read_bytes() == FILES[LARGE]


def test_a_connection_that_always_breaks_is_given_up(server: Server, data_folder: Path) -> None:
    """Rather than tried for ever; no half file is left."""
    server.faults = 1000
    with pytest.raises(DownloadError, match="no connection, or it broke"):
        download("zenodo", base_url=server.url())
    assert len(server.requests) == module._TRIES
    assert left(data_folder) == set()


def test_a_server_that_does_not_say_the_size_works(server: Server) -> None:
    """Some proxies drop it; the bar then has no end, the download has."""
    seen: list[tuple[int, int]] = []
    files = download("zenodo", lambda done, total: seen.append((done, total)), server.url("unsized"))
    assert [file.read_bytes() for file in files] == list(FILES.values())
    assert {total for _, total in seen} == {0}


def test_an_unknown_source_lists_the_known_ones() -> None:
    """A typing error must not start a download of something else."""
    with pytest.raises(SettingError, match="zenodo"):
        download("zenodoo")


def test_the_published_hashes_are_hashes() -> None:
    """A digit lost in the table would reject every download."""
    hashes = PUBLISHED.sha256.values()
    assert len(set(hashes)) == 3
    assert all(len(hash_) == 64 and int(hash_, 16) for hash_ in hashes)


PUBLISHED = SOURCES["zenodo"]

CHILD = """
import sys
from covseg_core.data.library.download import SOURCES, Source, download
SOURCES["zenodo"] = Source("", "", "", {hashes!r})
try:
    for file in download(base_url={url!r}):
        print(file.name, file.stat().st_size)
except Exception as error:
    print(type(error).__name__, error)
"""


def child(server: Server, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", before + CHILD.format(hashes=HASHES, url=server.url())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_fetch_each_file_once(server: Server, data_folder: Path) -> None:
    """Dashboard and command line at once: one waits, both have the files."""
    outputs = [process.communicate(timeout=100) for process in [child(server), child(server)]]
    assert outputs == [("".join(f"{name} {len(content)}\n" for name, content in FILES.items()), "")] * 2
    assert sorted(server.requests) == ["masks.zip 0", "scans.zip 0"]
    assert left(data_folder) == set(FILES)


def test_a_disk_that_fills_up_leaves_nothing(server: Server, data_folder: Path) -> None:
    """A limit on the size of files stands for the disk: the write really fails in the middle."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
    output, errors = child(server, limit).communicate(timeout=100)
    assert output.startswith("DownloadError")
    assert "cannot be written (File too large)" in output
    assert errors == ""
    assert left(data_folder) == set()


def test_what_a_killed_download_left_is_cleared(server: Server, data_folder: Path) -> None:
    """A gigabyte of debris for each attempt would fill the disk."""
    kill = """
import os, signal, shutil
shutil.move = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
"""
    process = child(server, kill)
    process.communicate(timeout=100)
    assert process.returncode == -9
    assert len(left(data_folder)) == 1
    download("zenodo", base_url=server.url())
    assert left(data_folder) == set(FILES)
