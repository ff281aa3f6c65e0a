"""What a model was trained on, in a few figures: `training_data.json` in the run's folder.

It travels with the model, so that a new scan can be compared with the training data where those are not at hand, and
recognised if it is one of them. It holds ranges over all scans and hashes of their files; nothing else in it belongs
to one patient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.slices.appearance import look_at
from covseg_core.data.slices.cache import prepared
from covseg_core.data.splitting.split import Selection
from covseg_core.files import read_json, write_json
from covseg_core.runs import Run

FILE = "training_data.json"
INHERITED = "inherited_scans.json"
"""SHA-256 of the scans that the run's first weights were trained with."""


@dataclass(frozen=True)
class Range:
    """Smallest and largest value over the scans."""

    low: float
    high: float


@dataclass(frozen=True)
class TrainingData:
    """Of the slices that a model has learned from, and the scans they belong to."""

    scans: int
    patients: int
    slices: int
    """Slices that were trained on."""
    scales: dict[str, int]
    """How many of the scans are in HU and in 0-255."""
    spacing_known: int
    """How many scans have a known voxel size."""
    slice_mm: Range | None
    """Distance of neighbouring slices; None where no scan's is known, as for `pixel_mm`."""
    pixel_mm: Range | None
    rows: Range
    """Of the scan, before resizing; columns are much the same."""
    slices_per_scan: Range
    lung_grey: Range | None
    """See `Appearance`; None where no scan shows lungs."""
    tissue_grey: Range | None
    body_share: Range
    padding_share: Range
    scan_sha256: tuple[str, ...] = ()
    """Of the files of all scans that it was trained or validated on; empty in a file of an earlier version."""


def describe(
    dataset: Dataset, selection: Selection, prepare: PrepareConfig, scan_sha256: tuple[str, ...] = ()
) -> TrainingData:
    """Describe the selected slices, case id -> z indices, which have been prepared before."""
    chosen = {id: list(places) for id, places in selection.items() if len(places)}
    cases = [dataset.case(id) for id in chosen]
    known = [case for case in cases if case.spacing_known]
    looks = [look_at(prepared(dataset, case, prepare, "images")[chosen[case.id]]) for case in cases]
    return TrainingData(
        scans=len(cases),
        patients=len({case.patient_of(z) for case in cases for z in chosen[case.id]}),
        slices=sum(map(len, chosen.values())),
        scales={scale: sum(case.scale == scale for case in cases) for scale in sorted({case.scale for case in cases})},
        spacing_known=len(known),
        slice_mm=_range(case.spacing[0] for case in known),
        pixel_mm=_range(size for case in known for size in case.spacing[1:]),
        rows=_required(case.shape[1] for case in cases),
        slices_per_scan=_required(case.slices for case in cases),
        lung_grey=_range(look.lung_grey for look in looks),
        tissue_grey=_range(look.tissue_grey for look in looks),
        body_share=_required(look.body_share for look in looks),
        padding_share=_required(look.padding_share for look in looks),
        scan_sha256=scan_sha256,
    )


def write_training_data(run: Run, dataset: Dataset | None = None) -> TrainingData:
    """Describe a run's training data and keep it in the run's folder; what is there already stays, as on resume.

    For a run from before this file existed, its data set must still be there and unchanged.

    Parameters
    ----------
    dataset : the run's, if it is loaded already

    Raises
    ------
    CovsegError : the data set is gone, or does not have the run's slices
    """
    if data := read_training_data(run):
        return data
    config, split = run.config, run.split
    dataset = dataset or load_dataset(config.dataset, config.fingerprint)
    learned = {*split.train, *split.validation}
    hashes = {digest for id in learned for digest in dataset.case(id).scan_sha256} | set(inherited_scans(run))
    data = describe(dataset, split.train, config.prepare, tuple(sorted(hashes)))
    write_json(run.folder / FILE, data)
    return data


def keep_inherited(run: Run, data: TrainingData | None) -> None:
    """What the run starts from has learned from scans, too: with its weights their hashes come to the run."""
    write_json(run.folder / INHERITED, data.scan_sha256 if data else ())


def inherited_scans(run: Run) -> tuple[str, ...]:
    """SHA-256 of the scans that a run's first weights were trained or validated with."""
    path = run.folder / INHERITED
    return read_json(path, tuple[str, ...]) if path.is_file() else ()


def read_training_data(run: Run) -> TrainingData | None:
    """What the run's folder says about its training data; None where it says nothing."""
    path = run.folder / FILE
    return read_json(path, TrainingData) if path.is_file() else None


def _range(values: Iterable[float | None]) -> Range | None:
    there = [float(value) for value in values if value is not None]
    return Range(min(there), max(there)) if there else None


def _required(values: Iterable[float]) -> Range:
    """For what every scan has."""
    return _range(values) or Range(0, 0)
