"""Training on a GPU: how near it comes to a bare `keras.Model.fit`, and to what the card could do.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--json gpu.json] [--minutes 7]
    KERAS_BACKEND=jax python benchmarks/gpu.py --thesis DATASET [--split slice]

Needs one GPU, no network, and less than eight minutes: what does not fit into `--minutes` is left out, and it says so.
Besides Keras and its backend it needs NumPy, OpenCV, SciPy, scikit-image, psutil, filelock and msgspec; where the
readers of scans (nibabel, pydicom, isal) are missing, it does without. On a machine without a GPU it runs with small
sizes, to show that it works, and says so.

For the presets `paper`, `standard` and `robust`, in bfloat16 and float32, with 8 to 64 slices a step: slices a second
of `bare`, a `fit` on arrays that lie on the device already, without augmentation, and of `ours`, slices that stay on
the device, fetched and augmented there, with the callbacks of a training; share of the card's peak; memory. Then an
epoch of the thesis (467 training and 119 validation slices of 256 px), whether the loss falls as on the CPU, and
whether the second of two processes waits for the device.

Goals on an H100: `paper` 2,500 slices a second in bfloat16, ours within 10 % of bare, the thesis's epoch under 0.3 s.

`--thesis` trains the thesis's three models on a dataset, by slice and by patient, and prints its table beside theirs.
Slices that were prepared elsewhere are found in `COVSEG_DATA`.
"""

# ruff: noqa: E402 - what a machine lacks has to be replaced before it is imported

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest.mock import MagicMock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
READERS = {
    "nibabel": ("spatialimages",),
    "pydicom": ("dataset", "pixels", "uid"),
    "isal": ("igzip_lib",),
}
for _reader, _parts in READERS.items():
    if importlib.util.find_spec(_reader) is None:  # no scan is read here
        sys.modules |= {name: MagicMock() for name in (_reader, *(f"{_reader}.{part}" for part in _parts))}

import keras
import numpy as np
import psutil

from covseg_core.config import PRESETS, THESIS, AugmentConfig, ModelConfig, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.data.splitting.split import Split
from covseg_core.runs import Run, Standardisation, create_run, open_run
from covseg_core.runs.pace import choose_pace
from covseg_core.runs.time_estimate import multiply_accumulates
from covseg_core.training import train as training
from covseg_core.training.callbacks import Follow, Session
from covseg_core.training.device import Device, place, set_up
from covseg_core.training.heartbeat import Heart
from covseg_core.worker import turn

PEAKS = {"H100": (989, 495), "H200": (989, 495), "A100": (312, 156), "L40S": (362, 183), "L4": (121, 60)}
"""TFLOP/s of dense matrix products in bfloat16, and in the TensorFloat-32 that float32 networks use. Source: NVIDIA."""
CASES = [
    (preset, precision, batch)
    for batches in ((32,), (8, 64), (16,))
    for precision in ("mixed", "float32")
    for preset in ("paper", "standard", "robust")
    for batch in batches
]
"""What matters most comes first."""
PUBLISHED = {"accuracy": (99.71, 99.48, 31), "iou": (92.33, 87.42, 30), "dice": (91.98, 86.03, 29)}
"""Of the thesis: score on training and validation, on test [%], minutes for 100 epochs."""
SPLITS: tuple[Literal["slice", "patient"], ...] = ("slice", "patient")
STANDARDISATION = Standardisation(110.0, 70.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(tempfile.gettempdir()) / "covseg-gpu.json"
    parser.add_argument("--json", type=Path, default=default, help="where the figures go")
    parser.add_argument("--minutes", type=float, default=7.0, help="no new measurement is begun after so many")
    parser.add_argument("--thesis", metavar="DATASET", help="train the thesis's models instead")
    parser.add_argument("--split", choices=SPLITS, help="with --thesis: only the models with this split")
    parser.add_argument("--child", choices=["curve", "hold"], help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "curve":
        print(json.dumps(curve(held=False)))
        return 0
    if options.child == "hold":
        return hold(options.run)
    started = time.monotonic()
    device = set_up("auto")
    print(device.description, "" if device.gpu else "- no GPU here: small sizes, the speeds say nothing", flush=True)
    if options.thesis:
        found: dict[str, Any] = {"thesis": thesis(options.thesis, [options.split] if options.split else SPLITS, device)}
    else:
        os.environ["COVSEG_CHECKPOINTS"] = tempfile.mkdtemp(prefix="covseg-gpu-")
        found = {"speed": speeds(device, started + 60 * options.minutes)}
        found |= {"epoch": thesis_epoch(device), "curve": curves(), "queue": queue()}
    found |= {"device": device.description, "gpu": device.gpu, "seconds": round(time.monotonic() - started, 1)}
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['seconds']:.0f} s; figures in {options.json}")
    return 0


# --- speed ------------------------------------------------------------------------------------------------------------


def speeds(device: Device, end: float) -> list[dict[str, Any]]:
    """A row for each preset, precision and batch, until the time is over."""
    print(f"{'preset':9}{'precision':11}{'batch':>5}{'bare':>9}{'ours':>9}{'ratio':>7}{'of peak':>9}{'memory':>10}")
    rows = []
    for number, (preset, precision, batch) in enumerate(CASES if device.gpu else CASES[:3]):
        if time.monotonic() > end and number:
            print(f"left out for want of time: {len(CASES) - number} of {len(CASES)} rows")
            break
        rows.append(row := speed(preset, precision if device.gpu else "float32", batch if device.gpu else 8))
        share = f"{row['share']:.1%}" if row["share"] else "?"
        print(
            f"{preset:9}{row['policy'].removeprefix('mixed_'):11}{row['batch']:5}{row['bare']:9.0f}{row['ours']:9.0f}"
            f"{row['ours'] / row['bare']:7.2f}{share:>9}{row['memory'] / 1e9:7.2f} GB",
            flush=True,
        )
    print(
        "bare, ours: training slices a second; of peak: ours, 6 operations for each multiply-accumulate; memory: so far"
    )
    return rows


def speed(preset: str, precision: str, batch: int) -> dict[str, Any]:
    """Of bare `fit` and of ours, one after the other, each without its first epoch, which compiles."""
    device = set_up(precision)  # type: ignore[arg-type]
    config = config_of(preset, batch, device)
    size, filters = config.prepare.size, config.model.filters
    epochs, count = (4, max(1024, 16 * batch)) if device.gpu else (3, 2 * batch)
    slices = noise(count, size)
    images, masks = place(slices.images[..., None]), place(slices.masks[..., None])

    def bare(clock: Clock) -> None:
        model = training.compiled(config, STANDARDISATION, 0.05, device)
        model.fit(images, masks, batch_size=batch, epochs=epochs, shuffle=False, verbose=0, callbacks=[clock])

    def ours(clock: Clock) -> None:
        with session_of(config) as session:
            model = training.compiled(config, STANDARDISATION, 0.05, device)
            batches, _ = training.batches_of(model, slices, slices, config.train, device, on_device=True)
            follow = Follow(session, batches, ahead=device.gpu)
            model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[follow, clock])

    rates = {way.__name__: count / seconds_an_epoch(way) for way in (bare, ours)}
    operations = 6 * multiply_accumulates(size, filters) * rates["ours"]
    policy = keras.config.dtype_policy().name
    peak = next((peaks[policy == "float32"] for name, peaks in PEAKS.items() if name in device.description), 0)
    return {
        "preset": preset,
        "policy": policy,
        "batch": batch,
        "size": size,
        **rates,
        "share": operations / (peak * 1e12) if peak else None,
        "memory": memory(device),
    }


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def seconds_an_epoch(way: Callable[[Clock], None]) -> float:
    clock = Clock()
    way(clock)
    return statistics.median(clock.seconds[1:])


def config_of(preset: str, batch: int, device: Device) -> RunConfig:
    """The preset with this batch; without a GPU, a small one."""
    row = PRESETS[preset]
    train = dataclasses.replace(row.train, batch=batch, scale_batch=False)
    prepare, model = row.prepare, row.model
    if not device.gpu:
        prepare, model = dataclasses.replace(prepare, size=64), dataclasses.replace(model, filters=model.filters // 4)
    identity = (f"gpu-{time.monotonic_ns()}", "gpu", "noise", "0" * 64, "dice", preset, "2020-01-01T00:00:00+00:00")
    return RunConfig(*identity, prepare=prepare, model=model, train=train)  # type: ignore[arg-type]


def noise(count: int, size: int) -> SliceSet:
    """A fifth of each mask is lesion, so that no slice is left out as empty."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)
    return SliceSet(images, (images < 51).astype(np.uint8), ("noise",) * count, np.arange(count))


@contextmanager
def session_of(config: RunConfig) -> Iterator[Session]:
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    with Heart(run, run.status) as heart:
        yield Session(run, config, heart, threading.Event())


def memory(device: Device) -> int:
    """Most bytes in use so far, on the GPU; without one, of this process now."""
    if not device.gpu:
        return int(psutil.Process().memory_info().rss)
    if keras.backend.backend() == "jax":
        import jax

        return int((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))
    import tensorflow as tf

    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


# --- the thesis's epoch, correctness, the queue -----------------------------------------------------------------------


def thesis_epoch(device: Device) -> dict[str, float]:
    """Seconds of 467 training and 119 validation slices, with the batch of the rule; without and with what is saved."""
    set_up("auto")
    train, validation = (467, 119) if device.gpu else (16, 8)
    row = PRESETS["paper"]
    pace = choose_pace(row.train, row.prepare, row.model, train, device.gpu, device.memory)
    config = config_of("paper", pace.batch, device)
    slices = noise(train, config.prepare.size), noise(validation, config.prepare.size)
    clock, epochs = Clock(), 6 if device.gpu else 3
    with session_of(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))) as session:
        model = training.compiled(config, STANDARDISATION, 0.05, device)
        batches, plain = training.batches_of(model, *slices, config.train, device, on_device=True)
        model.fit(batches, validation_data=plain, epochs=epochs, shuffle=False, verbose=0, callbacks=[clock])
        training.fit(session, model, *slices, device, on_device=True)
        saved = [epoch["seconds"] for epoch in session.run.history()]
    found = {"batch": pace.batch, "steps": statistics.median(clock.seconds[1:]), "saved": statistics.median(saved[1:])}
    print(
        f"an epoch of {train} + {validation} slices, batch {pace.batch}: {found['steps']:.3f} s "
        f"(goal on an H100: 0.3 s); with weights, optimizer, history and previews saved {found['saved']:.3f} s"
    )
    return found


def curves() -> dict[str, Any]:
    """Losses of a small float32 network, slices held by this device, and fed on the CPU by another process."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    told = subprocess.run(
        [sys.executable, __file__, "--child", "curve"], env=environment, capture_output=True, text=True
    )
    if told.returncode:
        raise SystemExit(f"the process on the CPU failed: {told.stderr[-2000:]}")
    here, there = curve(held=True), json.loads(told.stdout.splitlines()[-1])
    difference = max(abs(a - b) for a, b in zip(here, there, strict=True))
    right = difference < 0.02 and here[-1] < here[0]
    on_device, on_cpu = (" ".join(f"{loss:.4f}" for loss in losses) for losses in (here, there))
    print(
        f"loss here {on_device}, on the CPU {on_cpu}: "
        f"{'alike' if right else 'NOT ALIKE'}, at most {difference:.4f} apart (goal: 0.02)"
    )
    return {"here": here, "cpu": there, "difference": difference, "right": right}


def curve(held: bool, epochs: int = 3) -> list[float]:
    device = set_up("float32")
    row = dataclasses.replace(PRESETS["quick"].train, batch=8, scale_batch=False, augment=AugmentConfig())
    config = RunConfig(
        *("curve", "gpu", "noise", "0" * 64, "combined", "quick", "2020-01-01T00:00:00+00:00"),  # type: ignore[arg-type]
        prepare=PrepareConfig(size=64),
        model=ModelConfig(8, "batch"),
        train=row,
    )
    slices = noise(64, 64)
    model = training.compiled(config, STANDARDISATION, 0.05, device)
    batches, _ = training.batches_of(model, slices, slices, config.train, device, on_device=held)
    history = model.fit(batches, epochs=epochs, shuffle=False, verbose=0).history
    return [float(loss) for loss in history["loss"]]


def queue() -> dict[str, Any]:
    """Two workers ask for the device at once: when each had it, in seconds since both were started."""
    device = set_up("auto")
    # runs of the measurements above would count as waiting
    os.environ["COVSEG_CHECKPOINTS"] = tempfile.mkdtemp(prefix="covseg-gpu-queue-")
    runs = [create_run(config_of("paper", 8, device), Split(SplitConfig(), {}, {}, {})) for _ in range(2)]
    start = time.time()
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", "hold", "--run", run.id], stdout=subprocess.PIPE, text=True
        )
        for run in runs
    ]
    spans = sorted(json.loads(child.communicate(timeout=200)[0].splitlines()[-1]) for child in children)
    spans = [[round(moment - start, 2) for moment in span] for span in spans]
    waited = spans[1][0] >= spans[0][1]
    print(f"two processes had the device at {spans[0]} and {spans[1]} s: {'in turn' if waited else 'AT ONCE'}")
    return {"spans": spans, "in_turn": waited}


def hold(id: str) -> int:
    """Wait for the device as a worker does, have it for two seconds, and say when that was."""
    run = open_run(id)
    with Heart(run, run.status) as heart, turn(run, heart, threading.Event()):
        heart.write(state="running")
        start = time.time()
        time.sleep(2)
        end = time.time()
    print(json.dumps([start, end]))
    return 0


# --- the thesis -------------------------------------------------------------------------------------------------------


def thesis(dataset: str, splits: Sequence[Literal["slice", "patient"]], device: Device) -> list[dict[str, Any]]:
    """The three models, by slice and by patient; without a GPU two epochs of a small network."""
    from covseg_core.data.library.datasets import load_dataset
    from covseg_core.data.splitting.split import make_split

    data, preset = load_dataset(dataset), PRESETS["paper"]
    rows = []
    for kind in splits:
        split = make_split(data, SplitConfig(kind=kind))
        for metric in THESIS:
            config = RunConfig(
                id=f"thesis-{time.time_ns()}-{kind}-{metric}",
                experiment=f"thesis-{kind}",
                dataset=dataset,
                fingerprint=data.fingerprint,
                metric=metric,
                preset="paper",
                created="2020-01-01T00:00:00+00:00",
                prepare=preset.prepare if device.gpu else dataclasses.replace(preset.prepare, size=64),
                split=split.config,
                model=preset.model if device.gpu else ModelConfig(4),
                train=dataclasses.replace(preset.train, epochs=preset.epochs[metric] if device.gpu else 2),
            )
            run = create_run(config, split)
            with Heart(run, run.status) as heart:
                training.train(run, heart, threading.Event())
            rows.append(row_of_thesis(run, device))
            print(f"{run.id}: {rows[-1]}", flush=True)
    print(
        f"\n{'metric':10}{'split':9}{'train + validation':>28}{'test':>18}{'minutes for 100 epochs':>26}{'in all':>8}"
    )
    for row in rows:
        train, test, minutes = PUBLISHED[row["metric"]]
        print(
            f"{row['metric']:10}{row['split']:9}{row['train']:19.2f} ({train:.2f}){row['test']:10.2f} ({test:.2f})"
            f"{row['minutes_for_100']:20.1f} ({minutes}){row['minutes']:8.1f}"
        )
    print("In brackets: the thesis, by slice. Its IoU is probably the mean of two classes, ours is of the lesion.")
    return rows


def row_of_thesis(run: Run, device: Device) -> dict[str, Any]:
    """Scores in percent with the best weights, by the run's own metric, all pixels pooled."""
    from covseg_core.config import METRICS
    from covseg_core.data.library.datasets import load_dataset
    from covseg_core.data.slices.slice_set import load_slices
    from covseg_core.evaluation.measures import Counts, count, overlap
    from covseg_core.runs.history import best_epoch

    config, data = run.config, load_dataset(run.config.dataset)
    network = training.compiled(config, run.standardisation, 0.05, device)
    model = keras.Model(network.inputs, network.outputs)
    model.load_weights(run.best_weights)

    def percent(*parts: Any) -> dict[str, float]:
        counts = Counts()
        for part in parts:
            slices = load_slices(data, part, config.prepare, config.target)
            # filled up to whole batches: another length would be compiled once more
            filled = np.resize(slices.images, (-(-len(slices) // 16) * 16, *slices.images.shape[1:]))
            found = model.predict(filled[..., None], batch_size=16, verbose=0)[: len(slices), ..., 0] >= 0.5
            counts += count(slices.masks, found)
        return {name: 100 * value for name, value in overlap(counts).items()}

    train, test = percent(run.split.train, run.split.validation), percent(run.split.test)
    seconds = run.history()[-1]["total_seconds"]
    return {
        "metric": config.metric,
        "split": config.split.kind,
        "train": train[config.metric],
        "test": test[config.metric],
        "minutes": seconds / 60,
        "minutes_for_100": seconds / 60 / len(run.history()) * 100,
        "epochs": len(run.history()),
        "best_epoch": best_epoch([row[f"val_{METRICS[config.metric].score}"] for row in run.history()]),
        "all_train": train,
        "all_test": test,
        "run": run.id,
    }


if __name__ == "__main__":
    sys.exit(main())
