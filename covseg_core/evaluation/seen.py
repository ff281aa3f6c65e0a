"""What a run has learned from, faced with a dataset: its own, another revision of that one, or any other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.splitting.split import Part, Selection
from covseg_core.errors import CovsegError
from covseg_core.prediction.scan import learned_scans
from covseg_core.runs import Run
from covseg_core.runs.training_data import inherited_scans

SAME_NAME = "has learned from patients of the same name"
"""In a note, where it cannot be known whether they are the same."""
LEARNED: tuple[Part, ...] = ("train", "validation")
Standing = Literal["trained", "validation", "test", "new", "left out"]
"""Of a case to a run: `new` was in no part of its split, `left out` was kept out of it on purpose."""


class Seen:
    """Whom of a dataset a run has seen.

    Parameters
    ----------
    run : its split says what it has learned from
    dataset : which may be the one that it was made from
    """

    def __init__(self, run: Run, dataset: Dataset) -> None:
        self._run, self._config, self._split, self._dataset = run, run.config, run.split, dataset
        self.own = self._config.dataset == dataset.name and self._config.fingerprint == dataset.fingerprint
        """Whether the dataset is the very one that the run was made from."""
        self.kin = not self.own and self._is_kin()
        """Whether it is another revision of that one: the same patients, with masks corrected or cases added."""

    @property
    def told(self) -> bool:
        """Whether the split tells which of the slices it has learned from."""
        return self.own or self.kin

    def slices(self, id: str) -> set[int]:
        """Those of a case that were trained or validated on."""
        return {z for part in LEARNED for z in self._split.part(part).get(id, ())}

    def patients(self, selection: Selection) -> tuple[set[str], list[str]]:
        """Patients of the selection that training or validation has seen, and a note on those who may be."""
        if self.told:
            known = self._trained | self._validated
            return {self._dataset.case(id).patient_of(z) for id, zs in selection.items() for z in zs} & known, []
        seen, doubtful = self._elsewhere([self._dataset.case(id) for id in selection])
        if not doubtful:
            return seen, []
        listed = ", ".join(sorted(doubtful))
        return seen, [f"{self._run.id} {SAME_NAME}: {listed}. If so, scores are too good."]

    def standing(self, case: Case) -> Standing:
        """Whether the run has learned from the patient of a case whose slices are of one patient; in doubt it has.

        The files of scans count as well, since a run may go on from the weights of one that was trained elsewhere.
        """
        if not self.told:
            seen, doubtful = self._elsewhere([case])
            return "trained" if seen or doubtful or case.scan_sha256 & self._scans else "new"
        if case.patient in self._trained or case.scan_sha256 & self._inherited:
            return "trained"
        if case.patient in self._validated:
            return "validation"
        if case.id in self._split.test:
            return "test"
        return "left out" if case.id in self._config.split.leave_out else "new"

    def own_dataset(self) -> Dataset | None:
        """The dataset that the run was made from, if it is still there and the same."""
        if self.own:
            return self._dataset
        try:
            dataset = load_dataset(self._config.dataset, self._config.fingerprint)
        except CovsegError:
            return None
        return dataset if dataset.fingerprint == self._config.fingerprint else None

    @functools.cached_property
    def _trained(self) -> set[str]:
        return self._patients("train")

    @functools.cached_property
    def _validated(self) -> set[str]:
        return self._patients("validation")

    @functools.cached_property
    def _inherited(self) -> set[str]:
        return set(inherited_scans(self._run))

    @functools.cached_property
    def _scans(self) -> set[str]:
        return learned_scans(self._run)

    def _patients(self, part: Part) -> set[str]:
        chosen = self._split.part(part)
        return {self._dataset.case(id).patient_of(z) for id, zs in chosen.items() for z in zs}

    def _elsewhere(self, cases: Sequence[Case]) -> tuple[set[str], set[str]]:
        """Patients of another dataset's cases that were learned from, and those who only have the same name."""
        ids = {id for part in LEARNED for id in self._split.part(part)}
        trained = self.own_dataset()
        if trained is not None:
            known = {case.sha256["scan"] for case in trained.cases if case.id in ids}
            seen = {case.patient for case in cases if case.sha256["scan"] in known}
            names = {case.patient for case in trained.cases if case.id in ids}
            return seen, {case.patient for case in cases} & names - seen
        # changed since: cases of the same id are taken for the same
        same = self._config.dataset == self._dataset.name
        seen = {case.patient for case in cases if case.id in ids} if same else set()
        return seen, {case.patient for case in cases if case.id in ids} - seen

    def _is_kin(self) -> bool:
        """Whether the run's own dataset is of the same name, and its scans are all here."""
        before = self.own_dataset() if self._config.dataset == self._dataset.name else None
        if before is None:
            return False
        here = {case.id: case.sha256["scan"] for case in self._dataset.cases}
        return all(here.get(case.id) == case.sha256["scan"] for case in before.cases)
