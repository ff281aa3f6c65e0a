"""Opening a scan for prediction: readable, of a chest, in a known scale; and what is odd about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from covseg_core.data.datasets import load_dataset
from covseg_core.data.intensity import Scale, detect_scale
from covseg_core.data.lungs import check_chest
from covseg_core.data.volumes import Volume, load_scan
from covseg_core.errors import CovsegError
from covseg_core.files import sha256_file
from covseg_core.prediction.report import voxel_ml
from covseg_core.runs import Run


@dataclass(frozen=True, eq=False)
class CheckedScan:
    """A scan that models can be asked about."""

    volume: Volume
    scale: Scale
    sha256: str
    """Of the file."""
    warnings: tuple[str, ...]
    """One line each."""


def check_scan(path: str | os.PathLike[str], scale: Scale | None = None) -> CheckedScan:
    """Read a scan and make sure that it can be predicted on.

    Parameters
    ----------
    path : a scan that `volumes.load_scan` reads
    scale : of the scan's values; None to detect it

    Raises
    ------
    UnknownScale : the values fit neither scale, and none was given
    ScanError : the scan is not readable, or not of a chest
    """
    path = Path(path)
    volume = load_scan(path)
    scale = scale or detect_scale(volume.voxels, path)
    sha256 = sha256_file(path)
    return CheckedScan(volume, scale, sha256, (*check_chest(volume.voxels, scale, path), *_spacing_warning(volume)))


def training_warning(run: Run, sha256: str) -> list[str]:
    """A warning where the model has learned from this very scan: it says little about the model then."""
    try:
        split = run.split
        cases = {case.id for case in load_dataset(run.config.dataset).cases if case.sha256.get("scan") == sha256}
    except CovsegError:  # a shipped model, or its dataset was deleted
        return []
    known = [name for name in ("train", "validation") if cases & set(getattr(split, name))]
    return [f"{run.id} was trained with this scan: no measure of how it does on new ones"] if known else []


def _spacing_warning(volume: Volume) -> list[str]:
    if voxel_ml(volume) is not None:
        return []
    return ["spacing of 1 mm in all three directions is taken as unknown: no mL"]
