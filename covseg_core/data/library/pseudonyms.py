"""Cases without the names of their files: `case-001`, on import if asked for, and always in what leaves this computer.

On import the key is a file of its own that stays in the dataset's folder. For what leaves there is no key: who has the
scans can number them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.pairing import Group
from covseg_core.files import read_json, write_json

if TYPE_CHECKING:
    from covseg_core.data.splitting.split import Selection

KEY = "pseudonyms.json"
_WHAT = "Who is behind the pseudonyms of this dataset. It names people: keep it, and pass it on to nobody."


@dataclass(frozen=True)
class Pseudonyms:
    """What the cases and patients of a dataset are called in all that leaves this computer; see `Pseudonyms.of`."""

    cases: dict[str, str]
    """Id -> `case-001` and so on."""
    patients: dict[str, str]
    """Name -> `patient-001` and so on."""
    fingerprint: str
    """Of the dataset under these names: the true one would tell who has guessed a name that it is right."""
    true_fingerprint: str

    @classmethod
    def of(cls, dataset: Dataset) -> Pseudonyms:
        """Cases are numbered by the SHA-256 of their scans, patients by the first of their cases.

        The same scans give the same numbers wherever they are imported, and whatever they are called there. Who is
        called `case-001` already, up to the number of cases, stays it.
        """
        by_scan = sorted(dataset.cases, key=lambda case: case.sha256["scan"])
        cases = _numbered("case", [case.id for case in by_scan])
        in_order = sorted(dataset.cases, key=lambda case: cases[case.id])
        patients = _numbered("patient", list(dict.fromkeys(case.patient for case in in_order)))
        renamed = (replace(case, id=cases[case.id], patient=patients[case.patient]) for case in in_order)
        return cls(cases, patients, replace(dataset, cases=tuple(renamed)).fingerprint, dataset.fingerprint)

    def patient(self, name: str) -> str:
        """Of a patient, or of a slice that is a patient of its own: `stack#3`."""
        person, number, z = name.partition("#")
        return f"{self.patients[person]}{number}{z}"

    def selection(self, selection: Selection) -> Selection:
        """The same slices."""
        return dict(sorted((self.cases[id], zs) for id, zs in selection.items()))


def _numbered(word: str, names: Sequence[str]) -> dict[str, str]:
    """Name -> word and number; the numbers that nobody is called by are given out in the order of the names."""
    numbers = [f"{word}-{number:03}" for number in range(1, len(names) + 1)]
    free = iter([number for number in numbers if number not in names])
    return {name: name if name in numbers else next(free) for name in names}


@dataclass(frozen=True)
class Key:
    """Names as they are in the files -> pseudonyms."""

    what: str = _WHAT
    cases: dict[str, str] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)

    def renamed(self, group: Group) -> Group:
        """The same files under their pseudonym."""
        return replace(group, id=self.cases[group.id.lower()], patient=self.patients[group.patient.lower()])

    def write(self, folder: Path) -> None:
        """Into a folder, for nobody but this user."""
        write_json(folder / KEY, self)
        (folder / KEY).chmod(0o600)


def pseudonyms_of(groups: Sequence[Group], folder: Path) -> Key:
    """The key of a dataset's folder, if there is one, with these cases added in their order.

    A case that is in it already keeps its pseudonym, so that it cannot be imported twice.
    """
    old = read_json(folder / KEY, Key) if (folder / KEY).is_file() else Key()
    cases, patients = dict(old.cases), dict(old.patients)
    for group in groups:
        cases.setdefault(group.id.lower(), f"case-{len(cases) + 1:03}")
        patients.setdefault(group.patient.lower(), f"patient-{len(patients) + 1:03}")
    return Key(cases=cases, patients=patients)
