"""How soon planted errors are found: wrong masks among the slices that `covseg doubts` lists first.

Takes the stored test predictions of runs, folds of a cross-validation for instance, spoils the masks of some slices,
and looks at which place they come. Nothing is written.

    python benchmarks/doubts.py RUN... [--wrong 40] [--rounds 5]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from covseg_core.evaluation.stored_predictions.doubtful_masks import doubtful_slices, recall_among
from covseg_core.evaluation.stored_predictions.scans import StoredScan, scans_of_test
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.runs import open_runs

SMALLEST = 30
"""Pixels of a mask that is spoilt: a shift or a loss of less would be no error worth finding."""
Spoil = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def shifted(mask: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """By 8 to 16 pixels, in any direction."""
    angle, distance = random.uniform(0, 2 * np.pi), random.uniform(8, 16)
    step = (round(distance * np.sin(angle)), round(distance * np.cos(angle)))
    return np.roll(mask, step, (0, 1))


def deleted(mask: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.zeros_like(mask)


def lesion_deleted(mask: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The largest one of the slice."""
    labels, _ = ndimage.label(mask)
    return mask & (labels != 1 + np.bincount(labels.ravel())[1:].argmax())


def swapped(mask: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The mask of another slice instead."""
    rows, columns = (min(lengths) for lengths in zip(mask.shape, other.shape, strict=True))
    taken = np.zeros_like(mask)
    taken[:rows, :columns] = other[:rows, :columns]
    return taken


SPOILS: dict[str, Spoil] = {
    "shifted by 8 to 16 pixels": shifted, "deleted": deleted, "largest lesion deleted": lesion_deleted,
    "mask of another slice": swapped,
}  # fmt: skip


def main() -> None:
    """Spoil, rank, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="+")
    arguments.add_argument("--wrong", type=int, default=40, help="masks that are spoilt at a time")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    runs = [run for id in options.runs for run in open_runs(id)]
    scans = [scan for run in runs for scan in scans_of_test(run, stored_scores(run))]
    places = [(n, row) for n, scan in enumerate(scans) for row, mask in enumerate(scan.truth) if mask.sum() >= SMALLEST]
    total = sum(len(scan.zs) for scan in scans)
    counts = [options.wrong * times for times in (1, 2, 4)]
    table = Table("planted", *(f"among the first {count}" for count in counts), "by chance, of those")
    table.title = f"{options.wrong} wrong masks among {total} slices of {len(scans)} scans: share that is found"
    for name, spoil in SPOILS.items():
        found = np.mean([one_round(scans, places, spoil, options.wrong, counts, k) for k in range(options.rounds)], 0)
        table.add_row(name, *(f"{share:.2f}" for share in found), ", ".join(f"{n / total:.2f}" for n in counts))
    Console(width=110).print(table)


def one_round(
    scans: list[StoredScan], places: list[tuple[int, int]], spoil: Spoil, wrong: int, counts: list[int], seed: int
) -> list[float]:
    """Share of the spoilt masks among the first so many, for each of these counts."""
    random = np.random.default_rng(seed)
    chosen = [places[place] for place in random.choice(len(places), wrong, replace=False)]
    masks = {n: scans[n].truth.copy() for n, _ in chosen}
    for (n, row), (other, its) in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        masks[n][row] = spoil(scans[n].truth[row], scans[other].truth[its], random)
    spoilt = [dataclasses.replace(scan, truth=masks[n]) if n in masks else scan for n, scan in enumerate(scans)]
    found = doubtful_slices(spoilt)
    names = {(scans[n].case.id, scans[n].zs[row]) for n, row in chosen}
    return [recall_among(found, names, count) for count in counts]


if __name__ == "__main__":
    main()
