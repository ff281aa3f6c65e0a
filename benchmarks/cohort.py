"""Many scans: `covseg predict --all` beside one `covseg predict` for each, and the memory of it.

Both predict the same phantoms with a shipped model of infection and the lung model, in turns: some scans each alone,
then all of them as a cohort. What is compared is the time of a scan; on a busy machine, look at the ratio, and at the
seconds of CPU. Memory is that of the command and its processes together, after a few scans and at the end: it has to
stay where it was.

    python benchmarks/cohort.py [--scans 50] [--alone 6] [--turns 2] [--model infection] [--small]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from covseg_core.prediction.inference import usable_cores

ROOT = Path(__file__).resolve().parents[1]
LOOK = 0.25
"""Seconds between two looks at the memory."""


def main() -> None:
    """Measure in a folder that is removed afterwards, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scans", type=int, default=50)
    arguments.add_argument("--alone", type=int, default=6, help="scans that are predicted each by a call of its own")
    arguments.add_argument("--turns", type=int, default=2)
    arguments.add_argument("--model", default="infection")
    arguments.add_argument("--shape", type=int, nargs=3, default=(256, 256, 80))
    arguments.add_argument("--processes", type=int, help="of the cohort; as many as fit without it")
    arguments.add_argument("--small", action="store_true", help="8 scans of 128 x 128 x 24, one turn: a minute")
    options = arguments.parse_args()
    if options.small:
        options.scans, options.alone, options.turns, options.shape = 8, 3, 1, (128, 128, 24)
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ |= {"COVSEG_DATA": f"{folder}/data", "COVSEG_CHECKPOINTS": f"{folder}/checkpoints"}
        os.environ["PYTHONPATH"] = str(ROOT)
        scans = save_scans(Path(folder, "scans"), options.scans, tuple(options.shape))
        Console(width=120).print(measure(scans, Path(folder), options))


def measure(scans: list[Path], folder: Path, options: argparse.Namespace) -> Table:
    """Both ways in turns."""
    alone, alone_cpu, together, together_cpu, memory = [], [], [], [], []
    more = ["--processes", str(options.processes)] if options.processes else []
    for turn in range(options.turns):
        for number in range(options.alone):
            scan = scans[(turn * options.alone + number) % len(scans)]
            seconds, cpu, _ = timed(["predict", str(scan)], folder / "alone", options.model)
            alone.append(seconds)
            alone_cpu.append(cpu)
            shutil.rmtree(folder / "alone")
        seconds, cpu, used = timed(
            ["predict", str(folder / "scans"), "--all", *more], folder / f"cohort{turn}", options.model
        )
        together.append(seconds / len(scans))
        together_cpu.append(cpu / len(scans))
        memory.append(used)
    title = f"{len(scans)} scans of {' x '.join(map(str, options.shape))}, {options.model}, {usable_cores()} CPU cores"
    table = Table("figure", "measured", "goal", title=title)
    one, many = statistics.median(alone), statistics.median(together)
    table.add_row("a scan by a call of its own", f"{one:.2f} s, {statistics.median(alone_cpu):.2f} s of CPU", "")
    table.add_row("a scan in a cohort", f"{many:.2f} s, {statistics.median(together_cpu):.2f} s of CPU", "")
    ratio = statistics.median(alone_cpu) / statistics.median(together_cpu)
    table.add_row("calls against the cohort", f"{one / many:.2f} x, {ratio:.2f} x by CPU", "at least 3 x")
    for early, late, most in memory:
        table.add_row("memory after a third, and at the end", f"{early:.0f} MB, {late:.0f} MB", "the same")
        table.add_row("most memory, of all processes", f"{most:.0f} MB", "")
    return table


def timed(words: list[str], output: Path, model: str) -> tuple[float, float, tuple[float, float, float]]:
    """Seconds, and of CPU, of a command; its memory in the second third, in the last, and at most [MB]."""
    command = [sys.executable, "-m", "covseg_core", *words, "--run", model, "--output", str(output)]
    started, busy, seen = time.perf_counter(), children_cpu(), list[float]()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watcher = threading.Thread(target=watch, args=(process.pid, seen))
    watcher.start()
    if process.wait():
        raise SystemExit(f"failed: {' '.join(command)}")
    seconds, cpu = time.perf_counter() - started, children_cpu() - busy
    watcher.join()
    third = max(1, len(seen) // 3)
    return seconds, cpu, (max(seen[third : 2 * third], default=0), max(seen[2 * third :], default=0), max(seen))


def watch(number: int, seen: list[float]) -> None:
    """Memory of a process and of those that it has started, until it ends: what they share counts once."""
    while True:
        try:
            process = psutil.Process(number)
            family = [process, *process.children(recursive=True)]
            seen.append(sum(one.memory_full_info().pss for one in family) / 2**20)
        except psutil.Error:
            if not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return
        time.sleep(LOOK)


def children_cpu() -> float:
    """Seconds of CPU of all child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def save_scans(folder: Path, count: int, shape: tuple[int, int, int]) -> list[Path]:
    """Bodies with two lungs that narrow towards both ends, a lesion and noise, int16 HU, 3 mm apart."""
    folder.mkdir(parents=True)
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape[:2]), indexing="ij")
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    nib.openers.Opener.default_compresslevel = 1
    paths = []
    for number in range(count):
        random = np.random.default_rng(number)
        voxels = np.empty(shape, np.int16, order="F")
        for k in range(shape[2]):
            size = np.sin(np.pi * np.clip((k + 1) / (shape[2] + 1), 0.05, 0.95))
            lungs = (np.abs(x) - 0.4) ** 2 / (0.08 * size) + y**2 / (0.25 * size) < 1
            lesion = (x - 0.4) ** 2 + (y + 0.2) ** 2 + (3 * (k / shape[2] - 0.5)) ** 2 < 0.02
            plane = np.where(lungs, np.where(lesion, -300, -800), np.where(body, 40, -1000))
            voxels[..., k] = plane + random.integers(-20, 21, plane.shape, dtype=np.int16)
        paths.append(folder / f"scan{number:03}.nii.gz")
        pixel = 360 / shape[0]
        nib.save(nib.Nifti1Image(voxels, np.diag([-pixel, -pixel, 3.0, 1.0])), paths[-1])
    return paths


if __name__ == "__main__":
    main()
