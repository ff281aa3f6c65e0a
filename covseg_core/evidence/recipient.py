"""The data of a bundle as its recipient has them: under other names, recognised by the SHA-256 of scans and masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from covseg_core.data.library.datasets import Case, Dataset, list_datasets, load_dataset
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.evaluation.wording import plural
from covseg_core.evidence.bundle import Data

_LISTED = 3
"""Cases that are named where they are missing."""


@dataclass(frozen=True)
class Recognised(Dataset):
    """A dataset of this computer, with the names that a bundle has for it; its files stay where they are."""

    at: Path = Path()

    @property
    def folder(self) -> Path:
        return self.at


def find_data(path: Path, data: Data) -> Recognised:
    """The cases of a bundle in one of the datasets here, whatever they are called there.

    Parameters
    ----------
    path : of the bundle, for errors

    Raises
    ------
    DatasetError : no dataset has all of them; says what is missing
    """
    best: tuple[int, str, str] = (0, "", "")
    for dataset in _datasets(data.name):
        cases = _recognised(data, dataset)
        found = Recognised(data.name, cases, dataset.created, "", dataset.revision, at=dataset.folder)
        if len(cases) == len(data.cases) and found.fingerprint == data.fingerprint:
            return found
        best = max(best, (len(cases), dataset.name, _lacking(data, cases)), key=lambda one: one[0])
    count, name, lacking = best
    if not count:
        raise DatasetError(path, "was made from scans and masks that are not here", _wanted(data))
    raise DatasetError(path, f"dataset {name} here is not the bundle's: {lacking} differ", "the same scans and masks")


def _datasets(first: str) -> Iterator[Dataset]:
    """Those of the data folder that can be read; the one of this name, if there is one, before all others."""
    for name in sorted(list_datasets(), key=lambda name: (name != first, name)):
        try:
            yield from load_dataset(name).editions()
        except CovsegError:  # another dataset may be the one
            continue


def _recognised(data: Data, dataset: Dataset) -> tuple[Case, ...]:
    """Cases of a dataset that are of the bundle, with its names."""
    here = {tuple(sorted(case.sha256.items())): case for case in dataset.cases}
    found = []
    for id, digests in data.cases.items():
        if (case := here.get(tuple(sorted(digests.items())))) is not None:
            patient = data.patients.get(id, case.patient)  # earlier bundles name none, and want the same names
            found.append(dataclasses.replace(case, id=id, patient=patient))
    return tuple(found)


def _lacking(data: Data, cases: tuple[Case, ...]) -> str:
    there = {case.id for case in cases}
    missing = [id for id in data.cases if id not in there]
    if not missing:
        return "labels or scales"
    return ", ".join(missing[:_LISTED]) + " and others" * (len(missing) > _LISTED)


def _wanted(data: Data) -> str:
    return f"its {plural(len(data.cases), 'case')}, imported under any name by `covseg data add`"
