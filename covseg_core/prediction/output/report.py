"""What `report.json` says about a prediction. No header text, and no name that was not
given for it: both can tell who the patient is."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from covseg_core.config import Target
from covseg_core.data.reading.volumes import Volume
from covseg_core.data.slices.intensity import Scale
from covseg_core.prediction.combination import Combine
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.expected_dice import ExpectedDice
from covseg_core.prediction.masks.lung_sides import LungReport
from covseg_core.prediction.model_info import ModelInfo
from covseg_core.prediction.passport import Passport
from covseg_core.runs.operating_point import DEFAULT
from covseg_core.version import __version__

NOTICE = "For research use only. Not a medical device: not for diagnosis or treatment."

_PACKAGES = ("nibabel", "numpy", "onnxruntime", "opencv-python-headless")


@dataclass(frozen=True)
class MaskReport:
    """Size and place of one mask."""

    file: str | None
    """Its name in the output folder."""
    voxels: int
    volume_ml: float | None
    """None where the voxel size is not known."""
    positive_slices: tuple[int, ...]
    """Slices with at least one voxel; 0 is the most inferior one."""
    lesions: int = 0
    """Connected parts; voxels that touch at a corner belong together."""
    largest_voxels: int = 0
    """Of the largest part."""
    lung_share: float | None = None
    """Share of both lungs that is infected, 0..1; None without a lung mask, or for another target."""


@dataclass(frozen=True)
class ModelReport(ModelInfo):
    """One model, and its own mask."""

    mask: MaskReport
    threshold: float = DEFAULT
    """Probability, on the scan's own grid, from which a voxel is in its mask."""
    minimum_mm3: float = 0.0
    """Connected parts smaller than this are not in its mask."""
    peak: float = 0.0
    """Neither are connected parts whose probability nowhere reaches this."""
    precision: Precision = "float32"
    """In which it was asked."""


@dataclass(frozen=True)
class ScanReport:
    """What was predicted on."""

    sha256: str
    """Of the file: how to tell which scan this report is about."""
    shape: tuple[int, int, int]
    """(Z, Y, X): slices, rows, columns."""
    spacing_mm: tuple[float, float, float]
    """(z, y, x)."""
    voxel_ml: float | None
    """None where the spacing is 1 mm in all three directions, which writers put if they do not know it."""
    orientation: str
    """Of the file's axes, e.g. `LPS`."""
    scale: Scale


@dataclass(frozen=True)
class Report:
    """A prediction, without the masks themselves."""

    notice: str
    created: str
    """ISO 8601, UTC."""
    seconds: float
    """From opening the scan to the last mask."""
    target: Target
    threshold: float | None
    """Probability, on the scan's own grid, from which a voxel is in a model's mask; None where each has its own."""
    tied_voxels: int
    """Voxels with as many models for as against, which a vote leaves out; 0 where nothing was voted."""
    scan: ScanReport
    mask: MaskReport
    models: tuple[ModelReport, ...]
    warnings: tuple[str, ...]
    versions: dict[str, str]
    files: dict[str, str]
    """SHA-256 of all other files, by file name."""
    minimum_mm3: float = 0.0
    """Connected parts smaller than this are not in the mask. Where models have sizes of their own, their median."""
    peak: float | None = 0.0
    """Connected parts whose probability nowhere reaches this are not in a model's mask; None where each has its own."""
    lungs: LungReport | None = None
    """None where no lung model was asked."""
    passport: Passport | None = None
    operating: str = ""
    """Thresholds, sizes and peaks in words, and that they are the runs' operating points; empty if they were given."""
    combine: Combine | None = None
    """How several models became one mask. None for one model, and in reports of covseg 0.1, where all models voted."""
    combined: str = ""
    """The same in words."""
    mirror: bool = False
    """Whether each slice was shown to the models mirrored, too."""
    name: str = ""
    """What the user calls the scan; empty unless it was given for the files, since a name can tell who somebody is."""
    expected_dice: ExpectedDice | None = None
    """None unless it was measured for exactly these models."""

    @property
    def algorithm(self) -> str:
        """What made the mask, in the 64 characters of a DICOM file: the run, or how many models, combined how."""
        several = len(self.models) > 1
        name = f"covseg, {self.combine} of {len(self.models)} models" if several else self.models[0].run
        mirrored = ", mirror images too" if self.mirror else ""
        return name[: 64 - len(mirrored)] + mirrored

    @property
    def nothing(self) -> str:
        """What a mask without a voxel does not say; empty where something was found."""
        if self.mask.voxels:
            return ""
        return f"no {self.target} was found, which does not prove that there is none"

    @property
    def range_voxels(self) -> tuple[int, int]:
        """Smallest and largest of the models' own masks."""
        sizes = [model.mask.voxels for model in self.models]
        return min(sizes), max(sizes)


def report_scan(scan: Volume, scale: Scale, sha256: str) -> ScanReport:
    """Describe a scan."""
    z, y, x = scan.voxels.shape
    return ScanReport(sha256, (z, y, x), scan.spacing, scan.voxel_ml, scan.geometry.orientation, scale)


def report_mask(mask: np.ndarray, scan: Volume, file: str | None, sizes: np.ndarray) -> MaskReport:
    """Measure a mask (Z, Y, X) uint8 0/1 of a scan, whose parts have these sizes, the largest first."""
    counts = [int(np.count_nonzero(plane)) for plane in mask]
    voxels, ml = sum(counts), scan.voxel_ml
    positive = tuple(z for z, count in enumerate(counts) if count)
    largest = int(sizes[0]) if sizes.size else 0
    volume = None if ml is None else voxels * ml
    return MaskReport(file, voxels, volume, positive, len(sizes), largest)


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of covseg, Python and the packages that change a mask."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"covseg": __version__, "python": platform.python_version(), **packages}
