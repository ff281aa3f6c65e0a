"""A dataset: a named set of cases, each a scan with its masks, kept in one folder with a `dataset.json`.

The folder is `<data>/datasets/<name>/`, with the files under `cases/<case>/`. `importing` beside it
makes datasets; this module only reads, lists and deletes them.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from covseg_core.data.library.staging import staging
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.files import read_json, safe_name, to_json
from covseg_core.paths import data_root


@dataclass(frozen=True)
class Case:
    """A scan with its masks. All per-slice numbers are in canonical order: z = 0 is the lowest slice."""

    id: str
    patient: str
    """Who was scanned; several cases can share a patient. See `patient_of` for stacked scans."""
    stacked: bool
    """Unrelated slices in one file: each is its own patient."""
    scan: str
    """File of the scan, relative to the dataset's folder; so are the masks."""
    infection: str | None
    lung: str | None
    labels: tuple[int, ...] | None
    """Labels of the infection mask that count; None is all above 0."""
    shape: tuple[int, int, int]
    """(Z, Y, X)."""
    spacing: tuple[float, float, float]
    """(z, y, x) in mm; means nothing unless `spacing_known`."""
    spacing_known: bool
    """False for stacked slices and where the file says exactly 1 mm three times: then nothing is quoted in mm or mL."""
    orientation: str
    """Of the file's axes, such as `LPS`."""
    scale: Scale
    infection_voxels: tuple[int, ...] | None
    """Infected voxels of each slice, after the choice of labels."""
    lung_voxels: tuple[int, ...] | None
    sha256: dict[str, str]
    """Of the files that were imported, by `scan`, `infection` and `lung`; of DICOM, see `inspecting.Inspected`."""
    warnings: tuple[str, ...] = ()
    kept_sha256: dict[str, str] = field(default_factory=dict)
    """Of those files in the dataset's folder that are not what was imported: words were emptied in them, or they were
    made from DICOM."""

    def __post_init__(self) -> None:
        safe_name(self.id, "case")
        for file in self.files.values():
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or "\\" in file:
                raise DatasetError(self.id, f"file {file!r}", "a path inside the dataset's folder")

    @property
    def files(self) -> dict[str, str]:
        """The files there are, by `scan`, `infection` and `lung`."""
        files = {"scan": self.scan, "infection": self.infection, "lung": self.lung}
        return {role: file for role, file in files.items() if file is not None}

    @property
    def scan_sha256(self) -> set[str]:
        """By which the scan is recognised: of the file that was imported, and of the copy."""
        return {digests["scan"] for digests in (self.sha256, self.kept_sha256) if "scan" in digests}

    @property
    def slices(self) -> int:
        """How many axial slices the scan has."""
        return self.shape[0]

    @property
    def positive_slices(self) -> int | None:
        """How many slices show infection; None without an infection mask."""
        return None if self.infection_voxels is None else sum(voxels > 0 for voxels in self.infection_voxels)

    def voxels(self, target: str) -> tuple[int, ...] | None:
        """Voxels of each slice in the `infection` or `lung` mask; None without that mask."""
        return {"infection": self.infection_voxels, "lung": self.lung_voxels}[target]

    def patient_of(self, z: int) -> str:
        """The patient on slice `z`: for stacked scans, every slice is another one."""
        return f"{self.patient}#{z}" if self.stacked else self.patient


@dataclass(frozen=True)
class Dataset:
    """A named set of cases."""

    name: str
    cases: tuple[Case, ...]
    created: str
    """ISO 8601, UTC."""
    source: str
    """Where the files came from, in words."""

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return dataset_folder(self.name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what a training sees: ids, patients, labels, scales and the content of all files."""
        parts = [
            (case.id, case.patient, case.stacked, case.labels, case.scale, sorted(case.sha256.items()))
            for case in sorted(self.cases, key=lambda case: case.id)
        ]
        return hashlib.sha256(to_json(parts)).hexdigest()

    @property
    def patients(self) -> frozenset[str]:
        """All the people in the dataset."""
        return frozenset(case.patient_of(z) for case in self.cases for z in range(case.slices))

    def case(self, id: str) -> Case:
        """Look up a case.

        Raises
        ------
        DatasetError : there is no such case
        """
        for case in self.cases:
            if case.id == id:
                return case
        raise DatasetError(self.name, f"no case {id!r}", f"one of {', '.join(case.id for case in self.cases)}")

    def path(self, case: Case, what: str) -> Path:
        """File of a case's `scan`, `infection` or `lung` mask.

        Raises
        ------
        DatasetError : the case has no such mask
        """
        if what not in case.files:
            raise DatasetError(f"{self.name}/{case.id}", f"no {what} mask", "a case that has one")
        return self.folder / case.files[what]


def datasets_root() -> Path:
    """Folder of all datasets."""
    return data_root() / "datasets"


def dataset_folder(name: str) -> Path:
    """Folder of one dataset, whether it exists or not.

    Raises
    ------
    SettingError : `name` cannot be a folder's name
    """
    return datasets_root() / safe_name(name, "dataset")


def list_datasets() -> list[str]:
    """Names of the datasets, sorted; folders that are no dataset are passed over."""
    return sorted(file.parent.name for file in datasets_root().glob("[!.]*/dataset.json"))


def load_dataset(name: str) -> Dataset:
    """Read a dataset's description; the scans stay on disk.

    Raises
    ------
    DatasetError : there is none of that name, or its `dataset.json` cannot be read
    """
    folder = dataset_folder(name)
    if not folder.is_dir():
        raise _missing(name)
    try:
        dataset = read_json(folder / "dataset.json", Dataset)
    except CovsegError as error:
        raise DatasetError(error.what, error.found, error.expected) from None
    if dataset.name != name:
        raise DatasetError(folder / "dataset.json", f"name {dataset.name!r}", f"{name!r}, the folder's name")
    return dataset


def delete_dataset(name: str) -> None:
    """Remove a dataset and its files. It disappears at once; runs trained on it stay, but cannot be evaluated any more.

    Raises
    ------
    DatasetError : there is none of that name, or an import into it is running
    """
    folder = dataset_folder(name)
    if not folder.is_dir():
        raise _missing(name)
    with staging(datasets_root(), name):
        doomed = folder.with_name(f".deleted-{uuid.uuid4().hex[:8]}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _missing(name: str) -> DatasetError:
    there = ", ".join(list_datasets())
    return DatasetError(f"dataset {name}", "no such dataset", f"one of {there}" if there else "`covseg data add` first")
