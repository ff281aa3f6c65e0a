"""Moving the sliders of the What-if panel: from a threshold and a smallest size to the whole table.

Three models' probabilities for 200 slices of 256 x 256 in four scans, as a test part has them: soft blobs in two lungs
with noise around. A U-Net of the public data leaves 2.6 pieces a slice at 0.5, these are four times as many. The page
gets all thresholds ready in the background, from 0.5 outwards; who moves the slider sooner asks for the first time.

    python benchmarks/whatif.py [--slices 200] [--size 256] [--scans 4] [--models 3]
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from covseg_core.data.library.datasets import Case
from covseg_core.evaluation.stored_predictions.scans import StoredScan
from covseg_core.evaluation.stored_predictions.thresholds import STEPS, WhatIf, at

SIZES = (0, 10, 20, 50, 100, 200, 500)


def main() -> None:
    """Make the probabilities, move both sliders through all their places, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=200)
    arguments.add_argument("--size", type=int, default=256)
    arguments.add_argument("--scans", type=int, default=4)
    arguments.add_argument("--models", type=int, default=3)
    options = arguments.parse_args()
    started = time.perf_counter()
    parts = [scans(options, seed) for seed in range(options.models)]
    made = time.perf_counter() - started
    started = time.perf_counter()
    models = [WhatIf(part) for part in parts]
    at(models[:1], 0.95)  # imports what it needs
    built = time.perf_counter() - started
    rows = {"another threshold, asked for the first time": [timed(models, threshold, 0) for threshold in STEPS]}
    started = time.perf_counter()
    for model in [WhatIf(part) for part in parts]:
        model.prepare()
    prepared = time.perf_counter() - started
    rows["another threshold, got ready before"] = [timed(models, threshold, 0) for threshold in STEPS]
    rows["another smallest size"] = [timed(models, step, size) for step in STEPS for size in SIZES[1:]]
    lesion = np.mean([scan.truth.mean() for scan in parts[0]])
    marked = np.mean([(scan.probabilities >= 0.5).mean() for scan in parts[0]])
    title = f"{options.models} models, {options.slices} slices of {options.size} px in {options.scans} scans"
    table = Table("figure", "median", "longest", "CPU, median", "goal", title=title)
    for name, times in rows.items():
        wall, cpu = np.transpose(times)
        cells = (f"{np.median(wall):.0f} ms", f"{max(wall):.0f} ms", f"{np.median(cpu):.0f} ms")
        table.add_row(name, *cells, "under 200 ms")
    table.add_row("once for a comparison, without reading", f"{1000 * built:.0f} ms", "", "", "")
    table.add_row("all thresholds got ready, in the background", f"{prepared:.1f} s", "", "", "")
    Console(width=110).print(table)
    pieces = np.mean([model.pieces(0.5) for model in models]) / options.slices
    print(f"{pieces:.1f} pieces a slice at 0.5; lesion {lesion:.1%} of the pixels, {marked:.1%} marked")
    print(f"the data took {made:.0f} s to make")


def timed(models: list[WhatIf], threshold: float, minimum: float) -> tuple[float, float]:
    """Milliseconds that have passed, and those of all cores together."""
    started, worked = time.perf_counter(), time.process_time()
    at(models, threshold, minimum)
    return 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - worked)


def scans(options: argparse.Namespace, seed: int) -> list[StoredScan]:
    """One model's answers: the truth, blurred and displaced, with blobs of its own and grain."""
    size, each = options.size, options.slices // options.scans
    return [one_scan(number, each, size, np.random.default_rng([seed, number])) for number in range(options.scans)]


def one_scan(number: int, count: int, size: int, own: np.random.Generator) -> StoredScan:
    """The truth depends on the scan alone, the answer on the model too."""
    rows, columns = np.mgrid[:size, :size] / size
    lungs = np.zeros((size, size), bool)
    for middle in (0.3, 0.7):
        lungs |= ((columns - middle) / 0.16) ** 2 + ((rows - 0.5) / 0.3) ** 2 < 1
    common = np.random.default_rng(number)
    hidden = smooth(common, count, size)
    truth = (hidden > 1.2) & lungs
    answer = 6 * (hidden - 1.2) + 2 * smooth(own, count, size) + 0.3 * smooth(own, count, size, size / 200)
    answer = np.where(lungs, answer, answer - 12)
    case = Case(
        id=f"scan-{number}", patient=f"p{number}", stacked=False, scan="ct.nii", infection=None, lung=None, labels=None,
        shape=(count, size, size), spacing=(5.0, 1.3, 1.3), spacing_known=True, orientation="RAS", scale="HU",
        infection_voxels=None, lung_voxels=None, sha256={},
    )  # fmt: skip
    side = slice(0, size)
    probabilities = (1 / (1 + np.exp(-answer))).astype(np.float16)
    return StoredScan(case, tuple(range(count)), probabilities, truth, (side, side), (1.0, 1.0))


def smooth(random: np.random.Generator, count: int, size: int, width: float | None = None) -> np.ndarray:
    """(count, size, size) float32 noise of standard deviation 1, with blobs of a few centimetres or another width."""
    noise = random.normal(size=(count, size, size)).astype(np.float32)
    noise = np.stack([cv2.GaussianBlur(plane, (0, 0), width or size / 32) for plane in noise])
    noise = noise + np.roll(noise, 1, 0) + np.roll(noise, -1, 0)
    return noise / noise.std()


if __name__ == "__main__":
    main()
