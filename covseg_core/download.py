"""Fetching public data: every file is checked against a published SHA-256 before it gets its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covseg_core.errors import DownloadError, SettingError
from covseg_core.settings import data_root

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes there are in all (0: the server does not say)."""

_CHUNK = 2**18
_TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as broken."""
_TRIES = 5
"""How often a broken connection is taken up again where it broke."""


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
        raise DownloadError(url, f"the server answers {error.response.status_code} {error.response.reason}", "the file")
    except requests.RequestException as error:
        raise DownloadError(url, f"no connection, or it broke ({_reason(error)})", f"a network, or the file in {path.parent}")
    except ValueError:
        raise DownloadError(url, "content with another SHA-256", sha256) from None
    return path


class _Stream:
    """A downloader for pooch that goes on where a connection broke, and looks for room on disk first."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or (lambda done, total: None)

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        import requests

        with open(output_file, "wb") as sink, requests.Session() as session:
            for tries_left in reversed(range(_TRIES)):
                start = sink.tell()
                try:
                    if self._receive(session, url, sink):
                        return
                except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                    if not tries_left or sink.tell() == start:
                        raise
