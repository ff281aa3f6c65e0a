"""From a folder of gz NIfTI files to cached slices: speed beside the thesis's loop, peak memory, second start.

Both sides read the same phantom scans and infection masks in the same run, in turns; the best of the turns counts. The
thesis's loop loads with nibabel, takes each slice, every second pixel of it, and resizes it with scikit-image.

    python benchmarks/prepare.py [--scans 2] [--slices 60] [--turns 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.table import Table
from skimage.transform import resize

from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.slices.cache import prepare_dataset
from covseg_core.data.slices.slice_set import load_slices
from covseg_core.paths import data_root

T = TypeVar("T")

SIZE = 256
SIDES = (512, 630)
"""Slices of the two halves of the public data set; the thesis reports 630."""
AREA, THESIS = PrepareConfig(SIZE), PrepareConfig(SIZE, resize="thesis")


def main() -> None:
    """Measure everything in a folder that is removed afterwards, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scans", type=int, default=2, help="scans of each size")
    arguments.add_argument("--slices", type=int, default=60, help="slices of each scan")
    arguments.add_argument("--turns", type=int, default=3)
    options = arguments.parse_args()
    table = Table("figure", "measured", "goal", title=f"slices of {SIZE} px, {len(os.sched_getaffinity(0))} CPU cores")
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_DATA"] = str(Path(folder, "data"))
        for side in SIDES:
            speed(table, Path(folder, f"speed-{side}"), options.scans, options.slices, side, options.turns)
        memory(table, Path(folder))
        second_start(table, Path(folder))
    Console().print(table)


def speed(table: Table, folder: Path, scans: int, slices: int, side: int, turns: int) -> None:
    """Seconds from files to slices, ours and the thesis's."""
    cases = write_sample(folder, scans, size=side, slices=slices)
    dataset = _import(folder.name, cases)
    ways: dict[str, Callable[[], object]] = {
        "thesis's loop": lambda: [thesis_loop(case) for case in cases],
        "prepare": lambda: prepare_dataset(dataset, AREA),
        "prepare, thesis's resize": lambda: prepare_dataset(dataset, THESIS),
        "data add + prepare": lambda: prepare_dataset(_import(f"again-{time.time_ns()}", cases), AREA),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            shutil.rmtree(data_root() / "cache", ignore_errors=True)
            seconds[name].append(_seconds(way))
    best = {name: min(taken) for name, taken in seconds.items()}
    slowest = best.pop("thesis's loop")
    table.add_row(f"thesis's loop, {scans} scans of {side} x {side} x {slices} with masks", f"{slowest:.2f} s", "")
    for name, taken in best.items():
        goal = ">= 3 x" if name == "prepare" else ""
        table.add_row(name, f"{taken:.2f} s, {slowest / taken:.1f} x faster", goal)


def thesis_loop(case: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scan and infection mask of a case as (Z, S, S) uint8, the thesis's way (its wrapping cast of HU included)."""
    stacks = []
    for name in ("ct.nii.gz", "infection_mask.nii.gz"):
        volume = nib.load(case / name).get_fdata()
        planes = [volume[::2, ::2, k] for k in range(volume.shape[2])]
        resized = [resize(plane, (SIZE, SIZE), preserve_range=True) for plane in planes]
        stacks.append(np.stack(resized).astype(np.int16).astype(np.uint8))
    return stacks[0], stacks[1]


def memory(table: Table, folder: Path) -> None:
    """Peak memory of a process that imports, or prepares, one large scan with its masks."""
    cases = write_sample(folder / "memory", scans=1, size=512, slices=300)
    for step in (_import, _prepare):
        peak = _child(_peak, step, "memory", cases)
        goal = "< 1500 MB" if step is _prepare else ""
        table.add_row(f"peak memory, {step.__name__[1:]} 512 x 512 x 300 int16 gz", f"{peak:.0f} MB", goal)


def second_start(table: Table, folder: Path) -> None:
    """Seconds a new process needs to have 1,000 prepared slices and masks in memory."""
    _prepare("start", write_sample(folder / "start", scans=4, size=128, slices=250))
    table.add_row("1,000 slices from the cache, in a new process", f"{_child(_from_cache, 'start'):.3f} s", "< 0.5 s")


def _import(name: str, cases: list[Path]) -> Dataset:
    return import_dataset(name, cases, allow_empty=True)


def _prepare(name: str, cases: list[Path]) -> None:
    if not (data_root() / "datasets" / name).exists():
        _import(name, cases)
    prepare_dataset(load_dataset(name), AREA)


def _from_cache(name: str) -> float:
    def start() -> None:
        dataset = load_dataset(name)
        slices = load_slices(dataset, {case.id: tuple(range(case.shape[0])) for case in dataset.cases}, AREA)
        if len(slices.images) != 1000:
            raise RuntimeError(f"{len(slices.images)} slices")

    return _seconds(start)


def _peak(step: Callable[..., object], *arguments: object) -> float:
    """Peak memory of this process after a step, interpreter and libraries included [MB].

    Linux only; `getrusage` would start from the parent's peak.
    """
    step(*arguments)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def _child(work: Callable[..., T], *arguments: Any) -> T:
    """Run in a new process, so that nothing read or grown before counts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
