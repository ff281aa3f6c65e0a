"""Operating points of runs, kept until a file changes: to tell whether one is of the present model takes a while."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from covseg_core.errors import CovsegError
from covseg_core.files import Stamp, stamp
from covseg_core.runs import Run, open_run
from covseg_core.runs.operating_point import FILE, OperatingPoint, Thresholds, read_point, thresholds_of


def point(run: Run) -> OperatingPoint | None:
    """As `operating_point.read_point`, read again only when a file has changed."""
    return _point(run.folder, _stamps(run.folder))


def setting(run_ids: Sequence[str], spacing_known: bool) -> Thresholds:
    """As `operating_point.thresholds_of`, of the same freshness; the default if a run is gone."""
    try:
        folders = tuple(open_run(id).folder for id in run_ids)
    except CovsegError:
        return Thresholds()
    return _setting(folders, tuple(map(_stamps, folders)), spacing_known)


Stamps = tuple[Stamp | None, ...]


def _stamps(folder: Path) -> Stamps:
    """What changes when the point or the model is written anew."""
    return tuple(stamp(folder / name) for name in (FILE, "model.onnx"))


@functools.lru_cache(maxsize=64)
def _point(folder: Path, stamps: Stamps) -> OperatingPoint | None:
    return read_point(Run(folder))


@functools.lru_cache(maxsize=64)
def _setting(folders: tuple[Path, ...], stamps: tuple[Stamps, ...], spacing_known: bool) -> Thresholds:
    return thresholds_of([Run(folder) for folder in folders], spacing_known)
