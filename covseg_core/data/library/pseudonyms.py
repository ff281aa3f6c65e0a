"""Cases without the names of their files: `case-001`, and a key of its own that stays in the dataset's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from covseg_core.data.library.pairing import Group
from covseg_core.files import read_json, write_json

KEY = "pseudonyms.json"
_WHAT = "Who is behind the pseudonyms of this dataset. It names people: keep it, and pass it on to nobody."


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
