"""Fine-tuning: a run that starts from the best weights of another one instead of new ones.

Network, slices and standardisation are the parent's, since its weights mean nothing to others. Its weights are copied
when the run is created: it does not matter what becomes of the parent. On the parent's own dataset, of whatever
revision, everybody stays on the side of the split where the parent had them, or its training would have seen the test.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from covseg_core.config import Preset, RunConfig, SplitConfig, Target
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.splitting.split import PARTS, Split, make_split
from covseg_core.errors import RunError, SettingError
from covseg_core.runs.preset_changes import PresetChanges
from covseg_core.runs.run import Run, open_run
from covseg_core.runs.training_data import keep_inherited, read_training_data

WEIGHTS = "first.weights.h5"
"""In the run's folder: what it starts from."""
STANDARDISATION = "standardise.json"
SLOWER = 10.0
"""So many times smaller than the preset's is the learning rate: what is there is to be changed a little."""
_FIXED = {"size": "prepare", "region": "prepare", "context": "prepare", "filters": "model"}


@dataclass(frozen=True)
class StartingPoint:
    """A run that another training starts from."""

    run: Run

    @property
    def config(self) -> RunConfig:
        return self.run.config

    def preset(self, base: Preset) -> Preset:
        """A preset for a run that starts from here: with this network and these slices, and a smaller learning rate."""
        train = dataclasses.replace(base.train, learning_rate=base.train.learning_rate / SLOWER)
        return dataclasses.replace(base, prepare=self.config.prepare, model=self.config.model, train=train)

    def check(self, changes: PresetChanges, target: Target) -> None:
        """Raise `SettingError` if something is asked for that its weights do not fit."""
        expected = f"as in {self.run.id}, whose weights it starts from"
        if target != self.config.target:
            raise SettingError("target", repr(target), f"{self.config.target!r}, {expected}")
        for name, part in _FIXED.items():
            wanted, there = getattr(changes, name), getattr(getattr(self.config, part), name)
            if wanted is not None and wanted != there:
                raise SettingError(name, repr(wanted), f"{there!r}, {expected}")

    def split(self, data: Dataset, wanted: SplitConfig) -> Split:
        """Who trains, validates and tests.

        Raises
        ------
        SettingError : a cross-validation, whose tests the parent has learned from
        RunError : on another dataset, scans that the parent has learned from would be tested
        """
        if wanted.folds:
            raise SettingError("folds", repr(wanted.folds), f"0: {self.run.id} has learned from those of other folds")
        if data.name == self.config.dataset:
            return self._own_split(data, wanted.leave_out)
        split = make_split(data, wanted, self.config.target)
        known = read_training_data(self.run)
        learned = set(known.scan_sha256) if known else set()
        seen = [id for id in (*split.validation, *split.test) if data.case(id).scan_sha256 & learned]
        if seen:
            found = f"has learned from scans of {data.name} that would be tested, such as {seen[0]}"
            raise RunError(self.run.id, found, f"its own dataset {self.config.dataset}, or one without them")
        return split

    def hand_over(self, run: Run) -> None:
        """Copy what a run needs that was created to start from this one."""
        shutil.copyfile(self.run.best_weights, run.folder / WEIGHTS)
        shutil.copyfile(self.run.folder / STANDARDISATION, run.folder / STANDARDISATION)
        keep_inherited(run, read_training_data(self.run))

    def _own_split(self, data: Dataset, leave_out: Sequence[str]) -> Split:
        """The parent's, with cases that have come since in training; what is left out is left out of training alone,
        so that parent and child are tested on the same."""
        before, target = self.run.split, self.config.target
        there = {case.id: case for case in data.cases if target in case.files}
        gone = [id for name in PARTS for id in before.part(name) if id not in there]
        if gone:
            found = f"was split with case {gone[0]}, which {data.reference} does not have with a mask of the {target}"
            raise RunError(self.run.id, found, "the dataset that it was made from, or a later revision")
        known = {id for name in PARTS for id in before.part(name)}
        new = {id: tuple(range(case.slices)) for id, case in there.items() if id not in known}
        train = {id: zs for id, zs in sorted({**before.train, **new}.items()) if id not in leave_out}
        if not train:
            raise RunError(self.run.id, "nothing is left to train on", "fewer cases that are left out")
        out = tuple(id for id in leave_out if id in {**before.train, **new})
        config = dataclasses.replace(before.config, folds=0, fold=0, leave_out=out)
        return dataclasses.replace(before, config=config, train=train)


def starting_point(id: str) -> StartingPoint:
    """The run of this id.

    Raises
    ------
    RunError : there is none, or it has no weights to start from
    """
    run = open_run(id)
    for path in (run.best_weights, run.folder / STANDARDISATION):
        if not path.is_file():
            found = f"has no {path.name}: " + ("it came with covseg" if run.onnx.exists() else "it was not trained yet")
            raise RunError(id, found, "a run that was trained here")
    return StartingPoint(run)
