"""Training: covseg against a bare `keras.Model.fit` on the same arrays, and what its callbacks cost.

    python benchmarks/train.py [--preset quick] [--slices 256] [--epochs 6]

Three ways of fitting the same network take turns, an epoch each, so that whatever else the machine does hits all alike:
`bare` is `model.fit(images, masks)`; `batches` adds covseg's augmented batches; `covseg` adds its callbacks, with
checkpoints, history and previews, as a worker runs them. Goals: `covseg` no slower than `bare`; callbacks under 5 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from covseg_core.config import PRESETS, RunConfig, SplitConfig
from covseg_core.data.phantom import make_phantom
from covseg_core.data.sliceset import SliceSet
from covseg_core.data.split import Split
from covseg_core.runs import Standardisation, create_run
from covseg_core.training.batches import PlainBatches, TrainingBatches
from covseg_core.training.callbacks import Follow, Record, Session
from covseg_core.training.device import set_up
from covseg_core.training.heart import Heart
from covseg_core.training.previews import choose_previews, write_preview_slices
from covseg_core.training.train import compiled, previewer


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
    seconds = take_turns(config, training, validation, options.epochs)
    report(options.preset, len(training), seconds)


def phantom_slices(count: int, size: int) -> SliceSet:
    """Slices with infection in each, so that `empty_share` leaves none out and all ways see the same number."""
    phantom = make_phantom(0, size=size)
    chosen = np.resize(np.flatnonzero(phantom.infection.any(axis=(1, 2))), count)
    grey = np.clip((phantom.ct[chosen].astype(np.float32) + 1250) * (255 / 1500), 0, 255).astype(np.uint8)
    return SliceSet(grey, phantom.infection[chosen], ("phantom",) * count, np.arange(count))


def take_turns(config: RunConfig, training: SliceSet, validation: SliceSet, epochs: int) -> dict[str, list[float]]:
    """Seconds of each epoch after the first, which traces and compiles."""
    device = set_up(config.train.precision)
    print(device.description)
    standardisation, share = Standardisation(110.0, 70.0), float(training.masks.mean())
    models = {name: compiled(config, standardisation, share, device) for name in ("bare", "batches", "covseg")}
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    batches, plain = TrainingBatches(training, config.train), PlainBatches(validation, config.train.batch)
    with Heart(run, run.status) as heart:
        session = Session(run, config, heart, threading.Event())
        chosen = choose_previews(validation)
        write_preview_slices(run, validation, chosen)
        callbacks = [Follow(session, batches), Record(session, previewer(models["covseg"], validation, chosen, 1))]
        data = {"x": batches, "validation_data": plain, "shuffle": False}
        ways = {
            "bare": {
                "x": training.images[..., None],
                "y": training.masks[..., None],
                "batch_size": config.train.batch,
                "validation_data": (validation.images[..., None], validation.masks[..., None]),
            },
            "batches": data,
            "covseg": data | {"callbacks": callbacks},
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(epochs + 1):
            for name, arguments in ways.items():
                start = time.perf_counter()
                models[name].fit(**arguments, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
                seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def report(preset: str, slices: int, seconds: dict[str, list[float]]) -> None:
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\npreset {preset}, {slices} training slices, median of {len(seconds['bare'])} epochs each, in turns")
    for name, value in median.items():
        print(f"{name:8} {value:7.2f} s an epoch   {median['bare'] / value:5.2f}x the speed of bare")
    ratio = statistics.median(b / c for b, c in zip(seconds["bare"], seconds["covseg"], strict=True))
    callbacks = statistics.median((c - b) / c for b, c in zip(seconds["batches"], seconds["covseg"], strict=True))
    print(f"covseg against bare: {ratio:.2f}x (goal: 1 or more)")
    print(f"callbacks and previews: {100 * callbacks:.1f} % of an epoch (goal: under 5 %)")


if __name__ == "__main__":
    main()
