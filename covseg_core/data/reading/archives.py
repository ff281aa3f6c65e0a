"""Unpacking zips from strangers: whole and inside the folder, or not at all."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from covseg_core.errors import DatasetError


@dataclass(frozen=True)
class Limits:
    """What a zip may become. Masks shrink as far as a bomb does, so that the ratio counts above a few GiB only."""

    files: int = 100_000
    bytes: int = 64 * 2**30


_ANYWAY = 4 * 2**30
"""Bytes that a zip may become however small it is."""
_RATIO = 100
"""How often a zip may become its own size beyond that: scans shrink to a half, masks to a thousandth."""
RESERVE = 200 * 2**20
"""Bytes on disk that are left to others."""
DEPTH = 32
"""Most folders in each other: hospitals' discs have five or six."""
NAME = 255
"""Most bytes of a name, which no file system exceeds; and four times as many of a path."""


def extract_zip(path: Path, folder: Path, limits: Limits | None = None) -> list[Path]:
    """Unpack a zip into a new folder.

    All entries are looked at before the first is written. macOS's `__MACOSX/` copies are left out.

    Parameters
    ----------
    path : the zip
    folder : where to; made here, and removed again if anything goes wrong
    limits : largest number of files and of bytes; the free space on disk is a limit as well

    Returns
    -------
    files : what was unpacked, in the archive's order

    Raises
    ------
    DatasetError : not a zip, damaged, encrypted, packed in an unknown way; an entry that is a link or a device, would
        land outside `folder` or on another entry, or lies too deep; more or larger files than allowed; `folder` exists
        or cannot be written
    """
    limits = limits or Limits()
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > 2 * limits.files:
                raise DatasetError(path, f"{len(archive.infolist()):,} entries", f"at most {limits.files:,} files")
            entries = {name: entry for entry in archive.infolist() if (name := _checked_name(path, entry)) is not None}
            _check_size(path, folder, list(entries.values()), limits)
            _check_clashes(path, archive.infolist())
            return _extract(archive, entries, folder)
    except zipfile.BadZipFile as error:
        raise DatasetError(path, f"not a zip, or damaged ({error})", "a complete .zip file") from None
    except (EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DatasetError(path, f"damaged ({error or 'ends too early'})", "a complete .zip file") from None
    except NotImplementedError as error:
        raise DatasetError(path, f"packed in a way that cannot be read ({error})", "a plain .zip file") from None
    except OSError as error:
        raise DatasetError(
            path, f"cannot be unpacked ({error.strerror or error})", "a readable file and room on disk"
        ) from None


def _checked_name(path: Path, entry: zipfile.ZipInfo) -> PurePosixPath | None:
    """The entry's place under the folder; None for folders and for what macOS adds."""
    name = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError(path, f"entry {entry.filename!r} is a link or a device", "files and folders only")
    inside = name.parts and not name.is_absolute() and ".." not in name.parts
    if not inside or not entry.filename.isprintable() or set(entry.filename) & set("\\:"):
        raise DatasetError(path, f"entry {entry.filename!r}", "names that stay inside the archive's own folder")
    if len(name.parts) > DEPTH + 1:
        raise DatasetError(path, f"an entry in {len(name.parts) - 1:,} folders", f"at most {DEPTH} in each other")
    if len(entry.filename.encode()) > 4 * NAME or any(len(part.encode()) > NAME for part in name.parts):
        raise DatasetError(path, f"an entry with a name of {len(entry.filename):,} characters", f"at most {NAME} bytes")
    if entry.flag_bits & 0x1:
        raise DatasetError(path, f"entry {entry.filename!r} is encrypted", "a zip without a password")
    return None if entry.is_dir() or name.parts[0] == "__MACOSX" else name


def _check_size(path: Path, folder: Path, entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Sizes as the directory says; `zipfile` reads no byte more than that of any entry."""
    if len(entries) > limits.files:
        raise DatasetError(path, f"{len(entries)} files", f"at most {limits.files}")
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    free = max(0, shutil.disk_usage(there).free - RESERVE)
    size = sum(entry.file_size for entry in entries)
    if size > max(_ANYWAY, _RATIO * path.stat().st_size):
        raise DatasetError(path, f"{size >> 20:,} MiB when unpacked", "a zip that shrinks less: no scan does so much")
    if size > min(limits.bytes, free):
        allowed = f"the {free >> 20:,} MiB free on disk" if free < limits.bytes else f"{limits.bytes >> 20:,} MiB"
        raise DatasetError(path, f"{size >> 20:,} MiB when unpacked", f"at most {allowed}")


def _check_clashes(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """No two files of one name (upper and lower case are one on some disks), none that is a folder of another's."""
    files = [entry.filename.casefold() for entry in entries if not entry.is_dir()]
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    seen: set[str] = set()
    for name in files:
        name = str(PurePosixPath(name))
        if name in seen or name in folders:
            raise DatasetError(path, f"two entries {name!r}", "each name once")
        seen.add(name)


def _extract(archive: zipfile.ZipFile, entries: dict[PurePosixPath, zipfile.ZipInfo], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    try:
        files = []
        for name, entry in entries.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(target, "xb") as sink:
                shutil.copyfileobj(source, sink, 2**20)
            files.append(target)
        return files
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
