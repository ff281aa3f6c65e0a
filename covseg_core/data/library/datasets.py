"""A dataset: a named set of cases, each a scan with its masks, kept in one folder with a `dataset.json`.

The folder is `<data>/datasets/<name>/`, with the files under `cases/<case>/`. `importing` beside it
makes datasets and `revisions` corrects their masks; this module only reads, lists and deletes them.

Every change of a dataset gives it another revision, counted from 1. `NAME@2` is the dataset as it was at its second;
`NAME` is the newest.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from covseg_core.data.library.revision import IMPORT, Revision, Role
from covseg_core.data.library.staging import staging
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.files import read_json, safe_name, to_json
from covseg_core.paths import data_root

ROLES: tuple[Role, ...] = ("infection", "lung")
"""The masks that a case can have."""
_REFERENCE = re.compile(r"(.*)@([1-9][0-9]{0,8})", re.DOTALL)


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
    since: int = 1
    """The dataset's revision that the case came with."""
    revisions: tuple[Revision, ...] = ()
    """Of masks that were corrected: all there were, the first included, oldest first. The fields above are those of the
    newest."""

    def __post_init__(self) -> None:
        safe_name(self.id, "case")
        for file in [*self.files.values(), *(revision.file for revision in self.revisions)]:
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

    def history(self, role: Role, created: str) -> tuple[Revision, ...]:
        """All masks there were of a role, oldest first.

        Parameters
        ----------
        created : of a mask that was never corrected, when it was imported
        """
        known = tuple(revision for revision in self.revisions if revision.role == role)
        if known or role not in self.files:
            return known
        labels = self.labels if role == "infection" else None
        first = Revision(
            self.since, role, self.files[role], self.sha256[role], self.voxels(role) or (), IMPORT, created,
            labels=labels, kept_sha256=self.kept_sha256.get(role),
        )  # fmt: skip
        return (first,)

    def with_mask(self, role: Role, mask: Revision | None) -> Case:
        """The case with another mask of a role, or without one."""
        digests, kept = dict(self.sha256), dict(self.kept_sha256)
        for known in (digests, kept):
            known.pop(role, None)
        if mask is not None:
            digests[role] = mask.sha256
            if mask.kept_sha256:
                kept[role] = mask.kept_sha256
        case = replace(self, sha256=digests, kept_sha256=kept)
        file, voxels = (mask.file, mask.voxels) if mask else (None, None)
        if role == "lung":
            return replace(case, lung=file, lung_voxels=voxels)
        return replace(case, infection=file, infection_voxels=voxels, labels=mask.labels if mask else None)

    def as_of(self, revision: int) -> Case:
        """The case as it was at a revision of its dataset."""
        case, kept = self, []
        for role, mask in self._masks_at(revision).items():
            case = case.with_mask(role, mask)
            then = [one for one in self.revisions if one.role == role and one.number <= revision]
            kept += then if len(then) > 1 or (mask and mask.origin != IMPORT) else []  # one says nothing more
        return replace(case, revisions=tuple(sorted(kept, key=lambda one: one.number)))

    def identity(self, revision: int) -> tuple[object, ...]:
        """What of it, as it was at a revision, is in the fingerprint of its dataset."""
        digests, labels = dict(self.sha256), self.labels
        for role, mask in self._masks_at(revision).items():
            digests.pop(role, None)
            if mask is not None:
                digests[role] = mask.sha256
            if role == "infection":
                labels = mask.labels if mask else None
        return self.id, self.patient, self.stacked, labels, self.scale, sorted(digests.items())

    def _masks_at(self, revision: int) -> dict[Role, Revision | None]:
        """The masks of those roles that were corrected, as they were at a revision; None for none yet."""
        masks: dict[Role, Revision | None] = {one.role: None for one in self.revisions}
        return masks | {one.role: one for one in self.revisions if one.number <= revision}

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
    revision: int = 1
    """Goes up with each change of masks or cases."""

    @property
    def reference(self) -> str:
        """What `load_dataset` reads this very revision by: `NAME@3`."""
        return f"{self.name}@{self.revision}"

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return dataset_folder(self.name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what a training sees: ids, patients, labels, scales and the content of all files."""
        return self._fingerprint_at(self.revision)

    def _fingerprint_at(self, revision: int) -> str:
        cases = sorted((case for case in self.cases if case.since <= revision), key=lambda case: case.id)
        return hashlib.sha256(to_json([case.identity(revision) for case in cases])).hexdigest()

    def as_of(self, revision: int) -> Dataset:
        """The dataset as it was at one of its revisions.

        Raises
        ------
        DatasetError : there is none of that number
        """
        if not 1 <= revision <= self.revision:
            there = "1" if self.revision == 1 else f"1 to {self.revision}"
            raise DatasetError(f"dataset {self.name}", f"no revision {revision}", there)
        if revision == self.revision:
            return self
        cases = tuple(case.as_of(revision) for case in self.cases if case.since <= revision)
        return replace(self, cases=cases, revision=revision)

    def of_fingerprint(self, fingerprint: str) -> Dataset:
        """The newest of this revision and those before it that has this fingerprint; this one if none has."""
        older = range(self.revision, 0, -1)
        return self.as_of(next((one for one in older if self._fingerprint_at(one) == fingerprint), self.revision))

    def editions(self) -> Iterator[Dataset]:
        """This revision and all before it, newest first."""
        return (self.as_of(number) for number in range(self.revision, 0, -1))

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
    try:
        return sorted(file.parent.name for file in datasets_root().glob("[!.]*/dataset.json"))
    except FileNotFoundError:  # an import that failed has just removed the folder that it had made
        return []


def load_dataset(name: str, fingerprint: str = "") -> Dataset:
    """Read a dataset's description; the scans stay on disk.

    Parameters
    ----------
    name : the newest revision; or `NAME@2`, as it was at that one
    fingerprint : of the newest revision that has it, if there is one: what a run was made from or scored on. Otherwise
        it is the newest, whose fingerprint is another

    Raises
    ------
    DatasetError : there is none of that name or revision, or its `dataset.json` cannot be read
    """
    found = _REFERENCE.fullmatch(name)
    name, revision = (found[1], int(found[2])) if found else (name, 0)
    dataset = _read(name)
    if revision:
        dataset = dataset.as_of(revision)
    if not fingerprint:
        return dataset
    return dataset.of_fingerprint(fingerprint)


def _read(name: str) -> Dataset:
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
