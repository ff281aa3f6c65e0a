"""Opening a scan for prediction: readable, of a chest, in a known scale; and what is odd about it."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.data.classical_lungs import check_chest
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.reading.dicom import Series
from covseg_core.data.reading.opening import Opened, open_scan
from covseg_core.data.reading.volumes import MAX_LABELS, Volume
from covseg_core.data.slices.intensity import Scale, detect_scale
from covseg_core.errors import CovsegError, ScanError
from covseg_core.prediction.passport import Kind, Passport, make_passport
from covseg_core.runs import Run
from covseg_core.runs.training_data import read_training_data


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that models can be asked about."""

    volume: Volume
    scale: Scale
    sha256: str
    """Of the file, or over the files of a DICOM series."""
    warnings: tuple[str, ...]
    """One line each."""
    kind: Kind = "nifti"
    series: Series | None = None
    """Of DICOM."""
    interpolated: tuple[int, ...] = ()
    """Slices z that are not in the files but made from their neighbours."""
    seconds: float = 0.0
    """What it took to read it."""

    @functools.cached_property
    def passport(self) -> Passport:
        """What it is; looked at once."""
        return make_passport(self.volume, self.scale, self.kind, len(self.interpolated))

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel; None where it is not known."""
        return self.volume.voxel_ml


def read_scan(path: str | os.PathLike[str], scale: Scale | None = None, series: str | None = None) -> Scan:
    """Read a scan and make sure that it can be predicted on.

    Parameters
    ----------
    path : a scan that `opening.open_scan` reads
    scale : of the scan's values; None to detect it
    series : `Series.key` of the DICOM series to read, needed where several can be used

    Raises
    ------
    SeriesChoice : several series can be used, and none was chosen
    UnknownScale : the values fit neither scale, and none was given
    ScanError : the scan is not readable, is a mask, or not of a chest
    """
    path, started = Path(path), time.perf_counter()
    return checked(open_scan(path, series), path, scale, started)


def checked(opened: Opened, path: Path, scale: Scale | None, started: float) -> Scan:
    """As `read_scan`, of what is open already; `path` is what the user named, `started` when it began to be read."""
    volume = opened.volume
    _refuse_mask(volume)
    scale = scale or detect_scale(volume.voxels, path)
    warnings = (*opened.warnings, *check_chest(volume.voxels, scale, path), *_spacing_warning(volume))
    return Scan(
        volume,
        scale,
        opened.sha256,
        warnings,
        opened.kind,
        opened.series,
        opened.interpolated,
        time.perf_counter() - started,
    )


def training_warning(run: Run, sha256: str) -> list[str]:
    """A warning where the model has learned from this very scan: it says little about the model then."""
    if sha256 not in learned_scans(run):
        return []
    return [f"{run.id} was trained with this scan: no measure of how it does on new ones"]


def learned_scans(run: Run) -> set[str]:
    """SHA-256 of the scans that a model was trained or validated on, as far as that is known."""
    data = read_training_data(run)
    if data is not None and data.scan_sha256:
        return set(data.scan_sha256)
    try:  # a run of an earlier version: its dataset tells, if it is still here
        learned = {*run.split.train, *run.split.validation}
        cases = load_dataset(run.config.dataset, run.config.fingerprint).cases
        return {digest for case in cases if case.id in learned for digest in case.scan_sha256}
    except CovsegError:
        return set()


def _refuse_mask(volume: Volume) -> None:
    """A mask has a background of 0 and a few labels, a scan hundreds of values."""
    values: set[float] = set()
    for plane in volume.voxels:
        values.update(np.unique(plane).tolist())
        if len(values) > MAX_LABELS:
            return
    if min(values) == 0 and all(float(value).is_integer() for value in values):
        found = ", ".join(f"{value:g}" for value in sorted(values)[:6]) + (", ..." if len(values) > 6 else "")
        raise ScanError(volume.path, f"a mask, not a scan: its only values are {found}", "a CT scan")


def _spacing_warning(volume: Volume) -> list[str]:
    if volume.voxel_ml is not None:
        return []
    return ["spacing of 1 mm in all three directions is taken as unknown: no mL"]
