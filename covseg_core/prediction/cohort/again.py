"""A cohort of files that somebody has uploaded: predicted, and its scans looked at again. For a process apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.data.reading.opening import kind_of, unpack
from covseg_core.data.reading.volumes import load_mask
from covseg_core.errors import ScanError
from covseg_core.prediction.cohort.names import read_sources
from covseg_core.prediction.cohort.predict import Step, predict_cohort
from covseg_core.prediction.cohort.state import read_cohort
from covseg_core.prediction.output.files import LUNG_MASK, MASK
from covseg_core.prediction.request import Request
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.progress import Progress


@dataclass(frozen=True, eq=False)
class Seen:
    """A scan of a cohort, with what was found in it."""

    scan: Scan
    mask: np.ndarray
    """(Z, Y, X) uint8 0/1."""
    lungs: np.ndarray | None
    """(Z, Y, X) uint8 0/1; None where no lung model was asked."""


def predict_uploads(uploads: Path, request: Request, output: Path, pseudonyms: bool, progress: Progress) -> None:
    """Predict what lies in a folder of our own; zips in it become folders, so that their scans stay to be looked at.

    Raises
    ------
    CovsegError : as `predict_cohort`
    """
    for path in sorted(uploads.rglob("*.[zZ][iI][pP]")):
        folder = path.with_name(f"{path.stem}-{path.suffix[1:]}" if path.with_suffix("").exists() else path.stem)
        try:
            if kind_of(path) == "zip":
                unpack(path, folder)
                path.unlink()
        except ScanError:  # stays as it is, so that the cohort says what is wrong with it
            continue

    def tell(step: Step) -> None:
        progress(step.done, step.total)

    predict_cohort([uploads], request, output, pseudonyms, tell)


def look_again(output: Path, name: str) -> Seen:
    """Read a scan of a cohort and its masks.

    Raises
    ------
    CovsegError : it was not predicted, or its files are gone
    """
    cohort, source = read_cohort(output), read_sources(output).scans.get(name)
    row = next((row for row in cohort.rows if row.name == name), None) if cohort else None
    if cohort is None or row is None or source is None:
        raise ScanError(name, "not in this cohort any more")
    scan = read_scan(source.place, cohort.settings.scale, source.series or None)
    if scan.sha256 != row.sha256:
        raise ScanError(name, "has changed since it was predicted", "the same file")
    folder = output / (row.same_as or name)
    lungs = load_mask(folder / LUNG_MASK).voxels if (folder / LUNG_MASK).is_file() else None
    return Seen(scan, load_mask(folder / MASK).voxels, lungs)
