"""Which slices train, validate and test.

Neighbouring slices of one scan, and two scans of one person, look alike. A split by slice puts them on both sides and
measures memory: on such data 84.7 % by slice against 73.0 % by scan (Oliveira 2024). By patient is the default; by
slice, as in the thesis, stays for comparison and its report says who stands on both sides.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from covseg_core.config import SplitConfig, Target
from covseg_core.data.splitting.folds import assign_fold
from covseg_core.errors import DatasetError

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Case, Dataset

Part = Literal["train", "validation", "test"]
Selection = dict[str, tuple[int, ...]]
"""Case id -> z indices, ascending."""

PARTS: tuple[Part, ...] = ("train", "validation", "test")
PERMUTATIONS = 200
TOLERANCE = 0.1
"""Sum of differences in shares by which a split may be worse than the best, so that seeds differ on small datasets."""


@dataclass(frozen=True)
class Split:
    """Every slice of every case that has the target's mask and is not left out, in exactly one of three parts."""

    config: SplitConfig
    train: Selection
    validation: Selection
    test: Selection

    def part(self, name: Part) -> Selection:
        """The part of this name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


@dataclass(frozen=True)
class PartReport:
    """One row of a split's table."""

    part: Part
    patients: int
    scans: int
    slices: int
    share: float
    """Of all slices."""
    positive: int
    """Slices with at least one voxel of the target."""


@dataclass(frozen=True)
class SplitReport:
    """What a split came out as, and who stands on more than one side of it."""

    parts: tuple[PartReport, ...]
    shared_patients: dict[str, dict[Part, int]]
    """Patient -> slices in each part; only patients in more than one part, so empty for a split by patient."""

    @property
    def leaky(self) -> bool:
        """Whether scores on the test part can profit from knowing the patients."""
        return bool(self.shared_patients)


def make_split(dataset: Dataset, config: SplitConfig, target: Target = "infection") -> Split:
    """Deal the slices of a dataset out to training, validation and test.

    Patients (or slices) are put in a random order that is cut in two places, where the parts' numbers of slices come
    closest to the fractions. Of 200 such orders the first is taken whose shares of slices and of positive slices are
    as close to the fractions as any, but for a little; a part without any positive slice counts as far off, since
    nothing can be scored there. With `config.folds` the test is one of so many parts instead, see `folds.deal`.
    The result depends on case ids, patients, masks, `config` and `target`, not on the order of the cases.

    Parameters
    ----------
    dataset : cases without the target's mask are left out
    config : kind of split, fractions, seed, and which cases are left out
    target : which mask makes a slice positive

    Raises
    ------
    DatasetError : no case has the target's mask, there is no case that is left out, or there are fewer than 3 patients
        (slices), or too few for the folds
    """
    units: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    positive: set[tuple[str, int]] = set()
    for id in config.leave_out:
        dataset.case(id)
    kept = [case for case in _with_target(dataset, target) if case.id not in config.leave_out]
    for case in sorted(kept, key=lambda case: case.id):
        voxels = _voxels(case, target)
        for z in range(case.slices):
            units[(case.patient_of(z), 0) if config.kind == "patient" else (case.id, z)].append((case.id, z))
            if voxels[z]:
                positive.add((case.id, z))
    if len(units) < 3:
        more = "" if config.kind == "slice" else ", or a split by slice"
        raise DatasetError(dataset.name, f"{len(units)} {config.kind}(s)", f"at least 3 {config.kind}s to split{more}")

    members = [units[key] for key in sorted(units)]
    slices = np.array([len(unit) for unit in members])
    positives = np.array([sum(member in positive for member in unit) for unit in members])
    if config.folds:
        owner = assign_fold(slices, positives, config, dataset.name)
    else:
        owner = _assign(slices, positives, np.array(config.fractions), config.seed)
    return Split(config, *(_selection(members, owner == part) for part in range(3)))


def make_splits(dataset: Dataset, config: SplitConfig, target: Target = "infection") -> list[Split]:
    """One split, or with `config.folds` one for each fold, whichever `config.fold` is; raises as `make_split`."""
    folds = range(1, config.folds + 1) if config.folds else [0]
    return [make_split(dataset, dataclasses.replace(config, fold=fold), target) for fold in folds]


def split_report(split: Split, dataset: Dataset, target: Target = "infection") -> SplitReport:
    """Count patients, scans, slices and positive slices on each side, and find the patients on several sides.

    Raises
    ------
    DatasetError : the split names a case or slice that the dataset does not have, or a case without the target's mask
    """
    cases = {case.id: case for case in _with_target(dataset, target)}
    total = sum(len(chosen) for name in PARTS for chosen in split.part(name).values())
    rows: list[PartReport] = []
    sides: dict[str, dict[Part, int]] = defaultdict(dict)
    for name in PARTS:
        patients: dict[str, int] = defaultdict(int)
        positive = 0
        for case_id, chosen in split.part(name).items():
            case = cases.get(case_id)
            if case is None or max(chosen) >= case.slices:
                raise DatasetError(
                    dataset.name, f"case {case_id} or one of its slices is gone", "the split's own dataset"
                )
            voxels = _voxels(case, target)
            for z in chosen:
                patients[case.patient_of(z)] += 1
                positive += bool(voxels[z])
        for patient, count in patients.items():
            sides[patient][name] = count
        slices = sum(patients.values())
        rows.append(PartReport(name, len(patients), len(split.part(name)), slices, slices / max(total, 1), positive))
    return SplitReport(tuple(rows), {patient: parts for patient, parts in sorted(sides.items()) if len(parts) > 1})


def _with_target(dataset: Dataset, target: Target) -> list[Case]:
    cases = [case for case in dataset.cases if target in case.files]
    if not cases:
        raise DatasetError(dataset.name, f"no case has a mask of the {target}", f"at least one {target} mask")
    return cases


def _voxels(case: Case, target: Target) -> tuple[int, ...]:
    voxels = case.voxels(target)
    assert voxels is not None, f"{case.id} has a mask of the {target} and no counts"
    return voxels


def _assign(slices: np.ndarray, positives: np.ndarray, fractions: np.ndarray, seed: int) -> np.ndarray:
    """Part (0, 1, 2) of each unit; `slices` and `positives` count them, per unit."""
    random = np.random.default_rng(seed)
    deals: list[tuple[float, np.ndarray]] = []
    for _ in range(PERMUTATIONS):
        order = random.permutation(len(slices))
        share = np.cumsum(slices[order]) / slices.sum()
        first = int(np.argmin(np.abs(share[:-2] - fractions[0])))
        second = first + 1 + int(np.argmin(np.abs(share[first + 1 : -1] - fractions[:2].sum())))
        part = np.empty(len(order), int)
        part[order] = np.repeat([0, 1, 2], [first + 1, second - first, len(order) - second - 1])
        deals.append((_distance(part, slices, positives, fractions), part))
    closest = min(distance for distance, _ in deals)
    return next(part for distance, part in deals if distance <= closest + TOLERANCE)


def _distance(part: np.ndarray, slices: np.ndarray, positives: np.ndarray, fractions: np.ndarray) -> float:
    distance = np.abs(np.bincount(part, slices, 3) / slices.sum() - fractions).sum()
    if positives.any():
        share = np.bincount(part, positives, 3) / positives.sum()
        distance += np.abs(share - fractions).sum() + (share == 0).sum()
    return float(distance)


def _selection(members: list[list[tuple[str, int]]], chosen: np.ndarray) -> Selection:
    selection: dict[str, list[int]] = defaultdict(list)
    for unit, mine in zip(members, chosen, strict=True):
        if mine:
            for case_id, z in unit:
                selection[case_id].append(z)
    return {case_id: tuple(sorted(selection[case_id])) for case_id in sorted(selection)}
