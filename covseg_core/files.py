"""Names and files that survive a crash: nothing half-written ever stands under its final name."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
import uuid
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from covseg_core.errors import CovsegError, SettingError

T = TypeVar("T")
Stamp = tuple[int, int, int, int]
"""Of a file: when its content and its entry were changed [ns], its size [bytes], and its number on the disk."""

_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}\..+")
"""Names of files that `atomic_path` writes."""
_DAY = 86400.0
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def safe_name(name: str, what: str = "name") -> str:
    """Return `name` if it can be one path component, else raise.

    Names of datasets, cases and runs come from users and from file names, and become folders: no separators, no leading
    dot, at most 100 characters.

    Raises
    ------
    SettingError : for anything but letters, digits, `.`, `_` and `-`, or a name that does not start with one of the
        first two
    """
    if not _SAFE_NAME.fullmatch(name):
        raise SettingError(what, repr(name), "1 to 100 of the characters A-Z a-z 0-9 . _ -, first a letter or digit")
    return name


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`, else remove it.

    The temporary name keeps the suffixes, since writers such as nibabel and h5py choose the format by them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(root: Path) -> None:
    """Remove files below a folder that a killed process has not finished: those of `atomic_path` that are a day old."""
    for path in root.rglob(".*"):
        try:
            if _HALF_WRITTEN.fullmatch(path.name) and path.is_file() and time.time() - path.stat().st_mtime > _DAY:
                path.unlink()
        except OSError:
            continue


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def to_json(value: Any) -> bytes:
    """Serialise dataclasses, dicts and lists to indented UTF-8 JSON; NaN and infinity become null."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2) + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_bytes(path, to_json(value))


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as `kind` (a dataclass, or `dict`), checking field names and types.

    Raises
    ------
    CovsegError : the file is missing, is not JSON, or does not fit `kind`
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise CovsegError(path, "no such file") from None
    except SettingError as error:  # a dataclass checks its values itself
        raise CovsegError(path, str(error)) from None
    except msgspec.MsgspecError as error:
        raise CovsegError(path, str(error), f"JSON of {kind.__name__}") from None


def cached_json(path: Path, kind: type[T]) -> T:
    """As `read_json`, read again only once the file's stamp has changed. Shared: nobody may change what it holds."""
    return cast(T, _json(path, cast(Hashable, kind), stamp(path)))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """The same, computed again only once the file's stamp has changed; empty if there is no file.

    For what is asked often, as whether scores are of a run's present model. A check of integrity reads the file.
    """
    found = stamp(path)
    return _sha256(path, found) if found else ""


def stamp(path: Path) -> Stamp | None:
    """What changes when a file is written anew; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


@functools.lru_cache(maxsize=1024)
def _json(path: Path, kind: Any, stamp: Stamp | None) -> Any:
    return read_json(path, kind)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, stamp: Stamp) -> str:
    return sha256_file(path)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays, and paths, as JSON types."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
