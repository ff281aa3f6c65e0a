"""Fetching public data: every file is checked against a published SHA-256 before it gets its name."""

from __future__ import annotations

import errno
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from covseg_core.errors import DownloadError, SettingError
from covseg_core.paths import data_root
from covseg_core.progress import Progress

_CHUNK = 2**18
_TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as broken."""
_TRIES = 5
"""How often a connection that breaks is taken up again where it broke, after `_WAIT` seconds."""
_WAIT = 2.0


@dataclass(frozen=True)
class Source:
    """A public data set."""

    title: str
    licence: str
    url: str
    """Of the folder that the files are in."""
    sha256: dict[str, str]
    """File name -> SHA-256, as published by the torch-em project (`covid19_seg.py`) for Zenodo's files."""


SOURCES: dict[str, Source] = {
    "zenodo": Source(
        "COVID-19 CT Lung and Infection Segmentation Dataset (Ma et al. 2020, Zenodo 3757476): 20 scans with masks",
        "CC BY-NC-SA 4.0",
        "https://zenodo.org/records/3757476/files",
        {
            "COVID-19-CT-Seg_20cases.zip": "a5060480eff9315b069b086312dac4872777901fb80d268a5a83edd9f4e7b440",
            "Infection_Mask.zip": "87901c73fdd2230260e61d2dbc57bf56026efc28264006b8ea2bf411453c1694",
            "Lung_Mask.zip": "f060b0d0299939a6d95ddefdbfa281de1a779c4d230a5adbd32414711d6d8187",
        },
    )
}


def download(source: str = "zenodo", progress: Progress | None = None, base_url: str | None = None) -> list[Path]:
    """Fetch the files of a public data set into `<data>/downloads/`.

    Files that are there already, from an earlier download or put there by hand, are used if their SHA-256 is right. A
    connection that breaks is taken up where it broke. A second process waits for the first and uses its files.

    Parameters
    ----------
    source : a name in `SOURCES`
    progress : called after each piece
    base_url : of a mirror

    Returns
    -------
    files : in the order of the table

    Raises
    ------
    SettingError : no such source
    DownloadError : no connection, an answer other than the file, content with another SHA-256, no room on disk; files
        that were whole stay, nothing else does
    """
    from filelock import FileLock

    if source not in SOURCES:
        raise SettingError("source", repr(source), ", ".join(SOURCES))
    wanted = SOURCES[source]
    folder = data_root() / "downloads"
    base = (base_url or wanted.url).rstrip("/")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for abandoned in folder.glob("tmp*"):
                abandoned.unlink()
            return [_fetch(f"{base}/{name}", folder / name, hash_, progress) for name, hash_ in wanted.sha256.items()]
    except OSError as error:
        raise DownloadError(folder, f"cannot be written ({error.strerror or error})", "room on disk") from None


def _fetch(url: str, path: Path, sha256: str, progress: Progress | None) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, sha256, path.name, path.parent, downloader=_Stream(progress))
    except requests.HTTPError as error:
        raise DownloadError(url, f"the server says: {str(error).partition(' for url')[0]}", "the file") from None
    except requests.RequestException as error:
        expected = f"a network connection, or the file in {path.parent}"
        raise DownloadError(url, f"no connection, or it broke: {_reason(error)}", expected) from None
    except ValueError:
        raise DownloadError(url, "content with another SHA-256", f"SHA-256 {sha256}") from None
    return path


class _Stream:
    """A downloader for pooch that goes on where a connection broke, and first looks for room on disk."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        import requests

        broken = requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError
        with open(output_file, "wb") as sink:
            for tries_left in reversed(range(_TRIES)):
                try:
                    self._receive(url, sink)
                    return
                except broken:
                    if not tries_left or not sink.tell():
                        raise
                    time.sleep(_WAIT)

    def _receive(self, url: str, sink: BinaryIO) -> None:
        """Append what is missing; start anew if the server only sends whole files."""
        import requests

        headers = {"Accept-Encoding": "identity", "Range": f"bytes={sink.tell()}-"}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            if response.status_code != requests.codes.partial:
                sink.seek(0)
                sink.truncate()
            missing = int(response.headers.get("Content-Length", 0))
            free = shutil.disk_usage(Path(sink.name).parent).free
            if missing > free:
                raise OSError(errno.ENOSPC, f"{missing / 2**20:.0f} MiB to come, {free / 2**20:.0f} MiB free")
            total = sink.tell() + missing if missing else 0
            for chunk in response.iter_content(_CHUNK):
                sink.write(chunk)
                if self.progress is not None:
                    self.progress(sink.tell(), total)


def _reason(error: BaseException) -> str:
    """What the operating system said, out of what requests and urllib3 have wrapped around it."""
    name, inner = type(error).__name__, error.__cause__ or error.__context__
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return name
