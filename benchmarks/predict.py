"""Prediction on the CPU: slices a second beside Keras, batch sizes, cold start, peak memory.

Keras and ONNX Runtime take turns on the same slices in one process, with random weights: the time does not depend on
them. Cold start is the whole command, interpreter included. Memory is measured in processes of their own.

    python benchmarks/predict.py [--turns 5] [--paper]
"""

from __future__ import annotations

import argparse
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
from covseg_core.prediction.inference import Segmenter, usable_cores
from covseg_core.prediction.predict import predict
from covseg_core.runs import Run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BATCHES = (1, 2, 4, 8, 16)


def main() -> None:
    """Measure everything in a folder that is removed afterwards, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--paper", action="store_true", help="the thesis's network as well, which takes minutes")
    options = arguments.parse_args()
    presets = ["quick", "robust", "standard", *(["paper"] if options.paper else [])]
    table = Table("figure", "measured", "goal", title=f"prediction, {usable_cores()} CPU cores")
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_CHECKPOINTS"] = folder
        runs = {preset: Run(Path(folder, preset)) for preset in presets}
        for preset, run in runs.items():
            for row in in_child(speed, run, preset, options.turns)[0]:
                table.add_row(*row)
            table.add_section()
        for preset, run in runs.items():
            table.add_row(f"{preset}: peak memory of batches of {', '.join(map(str, BATCHES))}", batch_memory(run), "")
        cold_start(table, runs["robust"], Path(folder), options.turns)
        memory(table, [runs["robust"], runs["standard"]], Path(folder))
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
