"""Training: covseg against a bare `keras.Model.fit` on the same arrays, and what its callbacks cost.

    python benchmarks/train.py [--preset quick] [--slices 256] [--epochs 6]

Three ways of fitting the same network take turns, an epoch each, so that whatever else the machine does hits all alike:
`bare` is `model.fit(images, masks)`; `covseg` fits augmented batches with its callbacks, checkpoints, history and
previews, as a worker does; `held` lets the device augment its own slices, as on a GPU, without callbacks. Goals:
`covseg` no slower than `bare`; callbacks under 5 % of an epoch. A CPU would get one augmentation with the GPU if `held`
was at least 0.95 times as fast as `covseg`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from covseg_core.config import PRESETS, RunConfig, SplitConfig
from covseg_core.data.phantom.phantom import make_phantom
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.data.splitting.split import Split
from covseg_core.runs import Standardisation, create_run
from covseg_core.runs.previews import write_preview_slices
from covseg_core.training.batches import PlainBatches, TrainingBatches
from covseg_core.training.callbacks import Follow, Record, Session
from covseg_core.training.device import set_up
from covseg_core.training.heartbeat import Heart
from covseg_core.training.previews import choose_previews, preview_slices
from covseg_core.training.train import batches_of, compiled, previewer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--slices", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()

    os.environ["COVSEG_CHECKPOINTS"] = tempfile.mkdtemp(prefix="covseg-benchmark-")
    preset = PRESETS[options.preset]
    config = RunConfig(
        *("benchmark", "benchmark", "phantoms", "0" * 64, "dice", options.preset, "2020-01-01T00:00:00+00:00"),
        prepare=preset.prepare,
        model=preset.model,
        train=preset.train,
    )
    training = phantom_slices(options.slices, preset.prepare.size)
    validation = phantom_slices(options.slices // 4, preset.prepare.size)
    report(options.preset, len(training), take_turns(config, training, validation, options.epochs))


def phantom_slices(count: int, size: int) -> SliceSet:
    """Slices with infection in each, so that `empty_share` leaves none out and all ways see the same number."""
    phantom = make_phantom(0, size=size)
    chosen = np.resize(np.flatnonzero(phantom.infection.any(axis=(1, 2))), count)
    grey = np.clip((phantom.ct[chosen].astype(np.float32) + 1250) * (255 / 1500), 0, 255).astype(np.uint8)
    return SliceSet(grey, phantom.infection[chosen], ("phantom",) * count, np.arange(count))


class Timed(keras.callbacks.Callback):
    """Another callback, and the seconds spent in it."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        super().__init__()
        self.callback, self.seconds = callback, 0.0

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.callback.set_model(model)

    def _timed(self, method: str, *arguments: object) -> None:
        start = time.perf_counter()
        getattr(self.callback, method)(*arguments)
        self.seconds += time.perf_counter() - start

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._timed("on_train_begin", logs)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._timed("on_epoch_begin", epoch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._timed("on_train_batch_end", batch, logs)

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._timed("on_test_batch_end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._timed("on_epoch_end", epoch, logs)


@dataclass
class Epoch:
    """What one epoch took."""

    wall: float
    cpu: float
    callbacks: float


def take_turns(config: RunConfig, training: SliceSet, validation: SliceSet, epochs: int) -> dict[str, list[Epoch]]:
    """Each way's epochs after the first, which traces and compiles."""
    device = set_up(config.train.precision)
    print(device.description)
    standardisation, share = Standardisation(110.0, 70.0), float(training.masks.mean())
    models = {name: compiled(config, standardisation, share, device) for name in ("bare", "covseg", "held")}
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    batches, plain = TrainingBatches(training, config.train), PlainBatches(validation, config.train.batch)
    numbers, held = batches_of(models["held"], training, validation, config.train, device, on_device=True)
    with Heart(run, run.status) as heart:
        session = Session(run, config, heart, threading.Event())
        chosen = choose_previews(validation)
        write_preview_slices(run, preview_slices(validation, chosen))
        timed = [
            Timed(Follow(session, batches)),
            Timed(Record(session, previewer(models["covseg"], validation, chosen, 1))),
        ]
        ways = {
            "bare": {
                "x": training.images[..., None],
                "y": training.masks[..., None],
                "batch_size": config.train.batch,
                "validation_data": (validation.images[..., None], validation.masks[..., None]),
            },
            "covseg": {"x": batches, "validation_data": plain, "shuffle": False, "callbacks": timed},
            "held": {"x": numbers, "validation_data": held, "shuffle": False},
        }
        taken: dict[str, list[Epoch]] = {name: [] for name in ways}
        for epoch in range(epochs + 1):
            for name in list(ways)[:: 1 if epoch % 2 else -1]:
                numbers.start_epoch(epoch)
                before = sum(callback.seconds for callback in timed)
                wall, cpu = time.perf_counter(), time.process_time()
                models[name].fit(**ways[name], initial_epoch=epoch, epochs=epoch + 1, verbose=0)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                taken[name].append(Epoch(wall, cpu, sum(callback.seconds for callback in timed) - before))
    return {name: values[1:] for name, values in taken.items()}


def report(preset: str, slices: int, taken: dict[str, list[Epoch]]) -> None:
    """Medians of the turns, and ratios of the epochs of one turn, which saw the same machine."""
    bare, ours, held = taken["bare"], taken["covseg"], taken["held"]
    print(f"preset {preset}, {slices} training slices, medians of {len(bare)} epochs each, in turns")
    for name, epochs in taken.items():
        wall, cpu = (statistics.median(values) for values in zip(*((e.wall, e.cpu) for e in epochs), strict=True))
        print(f"{name:8} {wall:6.2f} s an epoch, {cpu:6.2f} s of CPU")
    wall = statistics.median(b.wall / c.wall for b, c in zip(bare, ours, strict=True))
    cpu = statistics.median(b.cpu / c.cpu for b, c in zip(bare, ours, strict=True))
    alike = statistics.median((c.wall - c.callbacks) / h.wall for c, h in zip(ours, held, strict=True))
    share = statistics.median(epoch.callbacks / epoch.wall for epoch in ours)
    print(f"covseg against bare: {wall:.2f}x the speed, {cpu:.2f}x by CPU time (goal: 1 or more)")
    print(
        f"held against covseg without its callbacks: {alike:.2f}x the speed (0.95 for one augmentation on all devices)"
    )
    print(f"in callbacks, previews included: {100 * share:.1f} % of an epoch (goal: under 5 %)")


if __name__ == "__main__":
    main()
