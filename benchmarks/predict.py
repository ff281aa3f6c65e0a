"""Prediction on the CPU: slices a second beside Keras, batch sizes, the whole command, a new threshold, peak memory.

Keras and ONNX Runtime take turns on the same slices in one process, with random weights: the time does not depend on
them. Cold start is the whole command, interpreter included. Memory is measured in processes of their own.

The whole command, with a shipped model of infection and the lung model, takes turns with that of an older checkout
(`--before`) on the same files, and stands beside the thesis's loop: one Keras `predict` for each slice of 256 x 256, by
the `paper` network, of which some slices are timed. On a busy machine, compare seconds of CPU: those of the children
that unpack DICOM count.

    python benchmarks/predict.py [--turns 5] [--paper] [--only command] [--scan PATH] [--before FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.table import Table

from covseg_core.config import PRESETS, RunConfig
from covseg_core.files import write_json
from covseg_core.prediction.ask import ask
from covseg_core.prediction.inference import Segmenter, usable_cores
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.runs import Run, open_run
from covseg_core.runs.lung_model import shipped_lungs
from covseg_core.runs.operating_point import Thresholds

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BATCHES = (1, 2, 4, 8, 16)
SHIPPED = "infection-dice"
THESIS_SLICES = 12
"""Slices of the thesis's loop that are timed."""


def main() -> None:
    """Measure everything in a folder that is removed afterwards, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--paper", action="store_true", help="the thesis's network as well, which takes minutes")
    arguments.add_argument("--only", choices=["models", "command", "memory"], help="one part of the table")
    arguments.add_argument("--scan", type=Path, help="for the whole command; a phantom of 512 x 512 x 248 otherwise")
    arguments.add_argument("--before", type=Path, help="an older checkout, whose command takes turns with this one's")
    options = arguments.parse_args()
    presets = ["quick", "robust", "standard", *(["paper"] if options.paper else [])]
    table = Table("figure", "measured", "goal", title=f"prediction, {usable_cores()} CPU cores")
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_CHECKPOINTS"] = folder
        runs = {preset: Run(Path(folder, preset)) for preset in presets}
        if options.only in (None, "models"):
            for preset, run in runs.items():
                for row in in_child(speed, run, preset, options.turns)[0]:
                    table.add_row(*row)
                table.add_section()
            for preset, run in runs.items():
                table.add_row(
                    f"{preset}: peak memory of batches of {', '.join(map(str, BATCHES))}", batch_memory(run), ""
                )
            cold_start(table, runs["robust"], Path(folder), options.turns)
        if options.only in (None, "memory"):
            for preset in ("robust", "standard") if options.only else ():
                in_child(speed, runs[preset], preset, 1)
            memory(table, [runs["robust"], runs["standard"]], Path(folder))
        if options.only in (None, "command"):
            scan = options.scan or in_child(save_chest, Path(folder, "scan.nii.gz"), (512, 512, 248))[0]
            whole_command(table, scan.absolute(), Path(folder), options.before, options.turns)
    Console(width=120).print(table)


def speed(run: Run, preset: str, turns: int) -> list[tuple[str, str, str]]:
    """Build a model, export it into `run`, and time both sides; rows for the table."""
    import keras

    from covseg_core.training.export import export_onnx
    from covseg_core.training.unet import build_unet

    settings = PRESETS[preset]
    size = settings.prepare.size
    keras.utils.set_random_seed(0)
    model = build_unet(settings.model, size, mean=100.0, std=60.0)
    config = RunConfig(preset, "bench", "none", "", "dice", preset, "", prepare=settings.prepare, model=settings.model)
    write_json(run.folder / "config.json", config)
    export_onnx(model, run.onnx)

    segmenter, together = Segmenter(run), Segmenter(run, workers=1)
    chosen = segmenter.batch
    images = np.random.default_rng(0).integers(0, 256, (96 if size < 256 else 32, size, size), dtype=np.uint8)

    def onnx(batch: int) -> np.ndarray:
        segmenter.batch = batch
        return segmenter.probabilities(images)

    def keras_(batch: int) -> np.ndarray:
        return model.predict(images[..., None], batch_size=batch, verbose=0)[..., 0]

    ways = {f"Keras, batches of {batch}": partial(keras_, batch) for batch in (8, 32)}
    ways["ONNX Runtime, all cores on one batch"] = partial(together.probabilities, images)
    ways |= {f"ONNX Runtime, batches of {batch}": partial(onnx, batch) for batch in sorted({*BATCHES, chosen})}
    used = f"ONNX Runtime, batches of {chosen}"
    difference = np.abs(keras_(32) - onnx(chosen)).max()
    for way in ways.values():  # traced, compiled, memory at its size
        way()
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            started, busy = time.perf_counter(), time.process_time()
            way()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - busy)
    rows = [
        (f"{preset}: {name}", f"{len(images) / statistics.median(wall[name]):.1f} slices/s, "
         f"{1000 * statistics.median(cpu[name]) / len(images):.1f} ms CPU a slice", "")
        for name in ways
    ]  # fmt: skip
    ratio, cpu_ratio = (
        statistics.median(
            min(pair) / ours for *pair, ours in zip(*(each[name] for name in [*ways][:2]), each[used], strict=True)
        )
        for each in (wall, cpu)
    )
    return [
        *rows,
        (f"{preset}: slices/s as used against the better Keras", f"{ratio:.2f} x", "at least 1.5 x"),
        (f"{preset}: the same by CPU time, for a busy machine", f"{cpu_ratio:.2f} x", ""),
        (f"{preset}: largest difference to Keras", f"{difference:.1e}", "below 1e-4"),
    ]


def batch_memory(run: Run) -> str:
    """Peak memory of a process that predicts with each batch size."""
    return ", ".join(f"{in_child(predict_batches, run, batch)[1]:.0f}" for batch in BATCHES) + " MB"


def predict_batches(run: Run, batch: int) -> None:
    """Two batches for each core."""
    segmenter = Segmenter(run)
    segmenter.batch = batch
    segmenter.probabilities(
        np.zeros((2 * segmenter.workers * batch, segmenter.prepare.size, segmenter.prepare.size), np.uint8)
    )


def cold_start(table: Table, run: Run, folder: Path, turns: int) -> None:
    """Seconds from calling `covseg predict` until it has ended, mask written."""
    for side in (128, 512):
        scan = save_chest(folder / f"cold{side}.nii.gz", (side, side, 40))
        command = [sys.executable, "-m", "covseg_core", "predict", str(scan), "--run", run.id]
        seconds = []
        for turn in range(turns):
            started = time.perf_counter()
            output = ["--output", str(folder / f"cold{side}-{turn}")]
            subprocess.run([*command, *output], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        measured = f"{min(seconds):.2f} s best, {statistics.median(seconds):.2f} s median"
        table.add_row(f"cold start, quick, scan of {side} x {side} x 40", measured, "under 3 s")


def whole_command(table: Table, scan: Path, folder: Path, before: Path | None, turns: int) -> None:
    """Seconds of `covseg predict` on one scan, of a new threshold, and of the thesis's loop."""
    roots = {"now": Path(__file__).resolve().parents[1]} | ({"before": before.absolute()} if before else {})
    wall: dict[str, list[float]] = {name: [] for name in roots}
    cpu: dict[str, list[float]] = {name: [] for name in roots}
    for turn in range(turns):
        for name, root in roots.items():
            output = folder / f"{name}-{turn}"
            command = ["-m", "covseg_core", "predict", str(scan), "--run", SHIPPED, "--output", str(output)]
            code = {"PYTHONPATH": str(root), "COVSEG_CHECKPOINTS": str(root / "checkpoints")}
            started, busy = time.perf_counter(), children_cpu()
            subprocess.run(
                [sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **code}, cwd=root
            )
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(children_cpu() - busy)
    for name in roots:
        measured = f"{statistics.median(wall[name]):.1f} s, {statistics.median(cpu[name]):.1f} s of CPU"
        table.add_row(f"whole command, {SHIPPED} and lungs, {name}", measured, "")
    if before:
        gains = [
            statistics.median(old / new for old, new in zip(each["before"], each["now"], strict=True))
            for each in (wall, cpu)
        ]
        table.add_row(
            "whole command, before against now", f"{gains[0]:.2f} x, {gains[1]:.2f} x by CPU", "at least 2.5 x"
        )
    (seconds, busy), slices = in_child(new_threshold, scan)[0]
    table.add_row("new threshold on the page", f"{seconds:.2f} s, {busy:.2f} s of CPU", "under 1 s")
    loop, loop_cpu = (each * slices for each in in_child(thesis_loop, THESIS_SLICES)[0])
    against = f"{loop / statistics.median(wall['now']):.1f} x, {loop_cpu / statistics.median(cpu['now']):.1f} x by CPU"
    table.add_row(f"thesis's loop over {slices} slices, without reading and writing", f"{loop:.0f} s", "")
    table.add_row("thesis's loop against the whole command now", against, "at least 4 x")


def new_threshold(scan: Path) -> tuple[tuple[float, float], int]:
    """Median seconds, and of CPU, from one threshold to the next as the page does it; and the slices of the scan.

    As there, voxels and answers lie on disk.
    """
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder, Spool(Path(folder, "answers"), in_memory=0) as spool:
        read = read_scan(scan)
        np.save(Path(folder, "voxels.npy"), read.volume.voxels)
        voxels = np.load(Path(folder, "voxels.npy"), mmap_mode="r")
        read = dataclasses.replace(read, volume=dataclasses.replace(read.volume, voxels=voxels))
        os.environ["COVSEG_CHECKPOINTS"] = str(Path(__file__).resolve().parents[1] / "checkpoints")
        answers = ask(read, [open_run(SHIPPED)], spool, shipped_lungs())
        wall, cpu = [], []
        for threshold in (0.5, 0.45, 0.4, 0.35, 0.3, 0.6, 0.7):
            started, busy = time.perf_counter(), time.process_time()
            predict_at(read, answers, Thresholds(threshold))
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - busy)
        return (statistics.median(wall[1:]), statistics.median(cpu[1:])), len(voxels)


def thesis_loop(slices: int) -> tuple[float, float]:
    """Seconds, and of CPU, that a slice takes with the thesis's network and one call of Keras for each."""
    from covseg_core.training.unet import build_unet

    settings = PRESETS["paper"]
    model = build_unet(settings.model, settings.prepare.size, mean=100.0, std=60.0)
    size = settings.prepare.size
    images = np.random.default_rng(0).integers(0, 256, (slices, size, size, 1), dtype=np.uint8)
    model.predict(images[:1], verbose=0)
    started, busy = time.perf_counter(), time.process_time()
    for image in images:
        model.predict(image[np.newaxis], verbose=0)
    return (time.perf_counter() - started) / slices, (time.process_time() - busy) / slices


def children_cpu() -> float:
    """Seconds of CPU of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(table: Table, runs: list[Run], folder: Path) -> None:
    """Peak memory of a long scan, beside what its voxels and its mask take."""
    shape = (512, 512, 600)
    scan = in_child(save_chest, folder / "long.nii.gz", shape)[0]
    for models in (runs[:1], runs):
        seconds, peak = in_child(predict_long, scan, models, folder / f"long-{len(models)}")
        name = f"{' x '.join(map(str, shape))} int16, {len(models)} model{'s' if len(models) > 1 else ''}"
        table.add_row(name, f"{peak:.0f} MB peak, {seconds:.0f} s", "under 1500 MB")


def predict_long(scan: Path, runs: list[Run], output: Path) -> float:
    """Seconds of a prediction with everything written."""
    started = time.perf_counter()
    predict(scan, runs, output)
    return time.perf_counter() - started


def save_chest(path: Path, shape: tuple[int, int, int]) -> Path:
    """A body with two lungs and noise, int16 HU, in the file's axes (i, j, k)."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape[:2]), indexing="ij")
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    lungs = (np.abs(x) - 0.4) ** 2 / 0.08 + y**2 / 0.25 < 1
    plane = np.where(lungs, -800, np.where(body, 40, -1000)).astype(np.int16)
    voxels = np.empty(shape, np.int16, order="F")
    random = np.random.default_rng(0)
    for k in range(shape[2]):
        voxels[..., k] = plane + random.integers(-20, 21, plane.shape, dtype=np.int16)
    nib.openers.Opener.default_compresslevel = 1
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.7, -0.7, 1.0, 1.0])), path)
    return path


def in_child(function: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
    """Result of a call in a fresh process, and that process's peak memory [MB]."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(function, *arguments).result()
        return result, pool.submit(peak_memory).result()


def peak_memory() -> float:
    """Of this process, so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
