"""How good an expected Dice is: measured on some phantoms, and held against the truth on others.

Five seeds learn from phantoms whose lesions are faint or clear. `covseg quality` learns what their agreement means on
phantoms that are fainter and noisier, and the expected Dice of as many new ones is compared with their true one: mean
distance, how many intervals hold, and what a review in that order is worth.

    python benchmarks/quality.py [--patients 60] [--epochs 10] [--size 48] [--filters 4]

Takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import make_phantom
from covseg_core.data.reading.volumes import load_mask
from covseg_core.evaluation.expected_quality import measure_quality, wording
from covseg_core.evaluation.expected_quality.risk_coverage import risk_coverage
from covseg_core.evaluation.measures import count, overlap
from covseg_core.prediction.expected_dice import KnownScan, Quality
from covseg_core.prediction.predict import predict
from covseg_core.runs import Run, jobs

TRAINED = 24
SIDE, SLICES, NOISE = 64, 8, 60.0
"""Of a phantom: pixels, and up to so much more noise [HU]."""


def main() -> None:
    """Train, measure, predict, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--patients", type=int, default=60, help="to measure on, and as many new ones")
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--size", type=int, default=48)
    arguments.add_argument("--filters", type=int, default=4)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_DATA"], os.environ["COVSEG_CHECKPOINTS"] = f"{folder}/data", f"{folder}/checkpoints"
        learned = drawn("learned", Path(folder), range(1000, 1000 + TRAINED), faintest=0.3)
        runs = jobs.train(
            learned.name, ["dice"], epochs=options.epochs, size=options.size, filters=options.filters,
            learning_rate=0.005, augmentation="none", seeds=5,
        )  # fmt: skip
        jobs.wait(runs)
        known = drawn("known", Path(folder), range(2000, 2000 + options.patients), faintest=0.1)
        quality = measure_quality([tuple(runs)], known.name)
        print(wording.basis(quality), wording.verdict(quality), sep="\n")
        if not quality.refused:
            report(quality, list(judged(drawn("new", Path(folder), range(3000, 3000 + options.patients), 0.1), runs)))


def drawn(name: str, folder: Path, seeds: range, faintest: float) -> Dataset:
    """Phantoms with lesions that are as clear as `faintest` to 1, in HU, and with noise."""
    random = np.random.default_rng(seeds[0])
    for seed in seeds:
        ill, well = make_phantom(seed, SIDE, SLICES), make_phantom(seed, SIDE, SLICES, lesions=False)
        clear, noise = random.uniform(faintest, 1), random.normal(0, random.uniform(0, NOISE), ill.ct.shape)
        ct = np.rint(clear * ill.ct + (1 - clear) * well.ct + noise).astype(np.int16)
        case = folder / name / f"{name}_{seed}"
        case.mkdir(parents=True)
        affine = np.diag([*ill.spacing[::-1], 1])
        for file, voxels in (("ct", ct), ("infection_mask", ill.infection), ("lung_mask", ill.lung)):
            nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0), affine), case / f"{file}.nii.gz")
    return import_dataset(name, [folder / name], allow_empty=True)


def judged(dataset: Dataset, runs: list[Run]) -> Iterator[KnownScan]:
    """What is expected of each scan on which something is marked, beside its true Dice."""
    for case in dataset.cases:
        made = predict(dataset.path(case, "scan"), runs)
        found = made.report.expected_dice
        if found is None or found.value is None:
            continue
        truth = load_mask(dataset.path(case, "infection"), case.labels, made.scan.geometry).voxels
        dice = overlap(count(truth, made.mask), "one")["dice"]
        yield KnownScan(case.id, case.patient, "new", found.agreement, dice, found.value)


def report(quality: Quality, new: list[KnownScan]) -> None:
    """Of the new ones."""
    expected, true = np.array([(scan.expected, scan.dice) for scan in new], float).T
    held = np.mean(np.abs(expected - true) <= quality.margin + 1e-9)
    print(f"{len(new)} new patients: off by {np.abs(expected - true).mean():.3f}, the interval holds for {held:.0%}.")
    curve = risk_coverage(new)
    assert curve is not None
    for share, kept, ideal in curve.rows():
        print(f"{share:4.0%} reviewed: {kept:.3f} kept, {curve.random:.3f} at random, {ideal:.3f} by true Dice")
    print(wording.worth(curve))


if __name__ == "__main__":
    main()
