"""An output folder that is written whole or not at all, and never costs a user a file that is theirs."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from covseg_core.errors import CovsegError, SettingError
from covseg_core.files import read_json, safe_name, sha256_file

REPORT = "report.json"
"""Written last; its `files` maps the name of every other file to its SHA-256, which is how they are known again."""


def check_output(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Which files an earlier result left in `folder` will be replaced by, or removed for, a result with files `names`.

    Raises
    ------
    SettingError : the folder is a file, cannot be written to, or holds a file of one of these names that is not as an
        earlier result left it: a mask edited by hand, for instance
    """
    place = _place(folder)
    if not place.is_dir():
        raise SettingError(folder, f"{'a file' if place == folder else f'{place} is a file'}", "a folder, new or not")
    if not os.access(place, os.W_OK | os.X_OK):
        raise SettingError(folder, f"no permission to write to {place}", "a folder of yours")
    earlier = _earlier(folder)
    for name in names:
        if os.path.lexists(folder / name) and name not in earlier:
            raise SettingError(
                folder / name, "exists and is not, or no longer, as an earlier prediction wrote it", "another folder"
            )
    return tuple(sorted(earlier))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write files into; on success they appear in `folder`, on any error nothing changes.

    Files that an earlier result left in `folder` are removed, all others stay.

    Raises
    ------
    CovsegError : writing failed: disk full, permission, read-only
    """
    staging = _place(folder) / f".covseg-{uuid.uuid4().hex[:8]}"
    try:
        staging.mkdir()
        yield staging
        replaced = check_output(folder, [file.name for file in staging.iterdir()])
        if folder.exists():
            _exchange(staging, folder, replaced)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging, folder)
    except OSError as error:
        raise CovsegError(folder, f"cannot be written ({error.strerror or error})") from error
    except CovsegError as error:  # nobody knows the staging folder's name
        what = error.what.replace(str(staging), str(folder))
        raise type(error)(what, error.found, error.expected) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _place(folder: Path) -> Path:
    """The folder itself, or the nearest parent there is: on the same disk, so that files can be renamed into place."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _earlier(folder: Path) -> set[str]:
    """Names of the files in `folder` that are as an earlier result left them."""
    try:
        report: dict[str, Any] = read_json(folder / REPORT, dict)
        written = dict(report["files"]) if report["notice"] else {}
    except (CovsegError, OSError, KeyError, TypeError, ValueError):
        return set()
    return {REPORT} | {name for name, digest in written.items() if _unchanged(folder, name, digest)}


def _unchanged(folder: Path, name: Any, digest: Any) -> bool:
    """Whether a file of the earlier report is still there and the same; the report may hold anything."""
    try:
        path = folder / safe_name(name)
        return path.is_file() and not path.is_symlink() and sha256_file(path) == digest
    except (CovsegError, OSError, TypeError):
        return False


def _exchange(staging: Path, folder: Path, replaced: Sequence[str]) -> None:
    """Move `replaced` out of `folder` and the content of `staging` in, the report last; all or nothing."""
    aside = staging / "replaced"
    arriving = sorted((file.name for file in staging.iterdir()), key=lambda name: name == REPORT)
    aside.mkdir()
    moves = [(folder / name, aside / name) for name in replaced] + [(staging / n, folder / n) for n in arriving]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            os.replace(source, target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            os.replace(target, source)
        raise
