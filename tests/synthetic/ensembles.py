"""Datasets and ensembles of which it is known how Dice goes with agreement, without a training.

A share of each lesion is *hazy*: its voxels are of many brightnesses, so that models which mark what is brighter than
limits of their own differ there, and together leave half of it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from chests import LESION, LUNG, SIDE, chest, grey, save_scan
from fakeruns import fake_seeds, save_model

from covseg_core.config import PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.files import write_json
from covseg_core.runs import Run

LIMITS = (60, 80, 100, 120, 140)
"""HU above which the members mark: together from 100 on."""
HALF = SplitConfig(fractions=(0.2, 0.4, 0.4))
SHARES = tuple(number / 17 for number in range(1, 17))
"""Of sixteen lesions, that are hazy."""


def hazy(share: float, lesion: bool = True) -> np.ndarray:
    """(x, y, z) int16 HU: a chest with a lesion of which such a share is hazy; or without any."""
    voxels = chest()
    there = np.flatnonzero(voxels == LESION)
    voxels.flat[there] = LESION if lesion else LUNG
    if lesion:
        some = there[len(there) - round(share * len(there)) :]
        voxels.flat[some] = 50 + 20 * np.linspace(5, 0, len(some)).round()  # between the limits
    return voxels


def save_case(folder: Path, voxels: np.ndarray, truth: np.ndarray, affine: np.ndarray | None = None) -> None:
    """A case as it is imported."""
    folder.mkdir(parents=True)
    save_scan(folder / "ct.nii.gz", voxels, affine)
    save_scan(folder / "infection_mask.nii.gz", truth.astype(np.uint8), affine)


def hazy_cases(folder: Path, shares: Sequence[float] = SHARES, name: str = "hazy", honest: bool = True) -> Dataset:
    """A case `c01` and so on for each share; true masks are the whole lesions, or what the models mark anyway."""
    truth = chest() == LESION
    for number, share in enumerate(shares, 1):
        voxels = hazy(share)
        thick = np.diag([0.8, 0.8, 5.0 + number % 3, 1.0])  # spacing is not alike
        save_case(folder / name / f"c{number:02}", voxels, truth if honest else voxels > 100, thick)
    return import_dataset(name, [folder / name])


def of_patients(dataset: Dataset, patients: Sequence[str]) -> Dataset:
    """The same cases, of these patients."""
    cases = tuple(replace(case, patient=who) for case, who in zip(dataset.cases, patients, strict=True))
    write_json(dataset.folder / "dataset.json", replace(dataset, cases=cases))
    return load_dataset(dataset.name)


def ensemble(
    dataset: Dataset, split: SplitConfig = HALF, members: int = 5, folds: int = 0, **values: object
) -> list[Run]:
    """Seeds of one experiment, each with a limit of its own; of folds in the order of seeds."""
    runs = fake_seeds(dataset, {"dice": 0}, members, folds, split, prepare=PrepareConfig(size=SIDE), **values)
    for run in runs:
        save_model(run.onnx, grey(LIMITS[(run.config.train.seed_number - 1) % len(LIMITS)] + 0.5), SIDE)
    return runs
