"""How long a training will take on this computer, and where that figure comes from.

An epoch costs its training slices, forward and back, and its validation slices, forward only: about a third. What a
slice costs is taken from, best first:

1. `runs`: epochs that the same network has trained here;
2. `measured`: a few real training steps of the same network, timed by `covseg_core.training.step_time`;
3. `scaled`: either of them for another network, by the ratio of multiply-accumulates. Right within a
   factor of two, for which the other one must not be too small.
"""

from __future__ import annotations

import atexit
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from covseg_core import paths
from covseg_core.config import ModelConfig, PrepareConfig, Target, TrainConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError
from covseg_core.files import read_json, to_json, write_json
from covseg_core.places.environment import environment
from covseg_core.runs import Run, host, jobs, list_runs, read_status
from covseg_core.runs.pace import Pace, read_pace

Basis = Literal["runs", "measured", "scaled"]

FORWARD = 1 / 3
"""Cost of a validation slice, in training slices: forward only, where training also goes back through each layer for
its inputs and for its weights."""
STARTUP = 15.0
"""Seconds from the start of a run to its first step, until a measurement here says better: imports, tracing."""
ALIKE = 20.0
"""By how much more multiply-accumulates a network may have than one whose time is scaled up: of a tiny network's time
little goes with them."""
RECENT = 5
"""Runs of one network that are looked at, the newest."""
KEPT = 50
"""Measurements that are kept, the newest."""


@dataclass(frozen=True)
class Network:
    """What decides the cost of a training step."""

    prepare: PrepareConfig
    model: ModelConfig
    train: TrainConfig
    slices: int = 0
    """Training slices of an epoch, where they are known: few of them keep a GPU's batch small."""

    @property
    def key(self) -> str:
        """The same for networks whose steps cost the same."""
        train = self.train
        parts = [
            self.prepare.size,
            self.prepare.channels,
            self.model.filters,
            self.model.normalization,
            train.batch,
            train.precision,
        ]
        return json.dumps([*parts, *asdict(train.augment).values(), jobs.backend()])

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one slice, forward."""
        return multiply_accumulates(self.prepare.size, self.model.filters)

    def same(self, key: str, batch: int) -> bool:
        """Whether what is known of a network, with so many slices a step (0: as the settings say), is of this one."""
        return key == self.key and (self.train.scale_batch or batch in (0, self.train.batch))


@dataclass(frozen=True)
class Measurement:
    """What `covseg_core.training.step_time` found, as kept in `<data>/calibration.json`."""

    host: str
    key: str
    macs: float
    device: str
    seconds_per_slice: float
    """Of training."""
    startup: float
    """Seconds from the start of the process to the end of its first step."""
    batch: int = 0
    """Slices a step, where the device made them differ from the settings; see `covseg_core.runs.pace`."""
    learning_rate: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """The content of `calibration.json`."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Speed:
    """Seconds that a training slice costs, and how that is known."""

    seconds_per_slice: float
    basis: Basis
    device: str
    startup: float = STARTUP
    runs: int = 0
    """Number of runs it is taken from."""
    chosen: str = ""
    """Batch and learning rate, where the device makes them differ from the settings."""


@dataclass(frozen=True)
class TrainingTime:
    """Time of one or several trainings, one after another."""

    seconds: float
    """Of all of them."""
    epoch_seconds: float
    speed: Speed

    @property
    def origin(self) -> str:
        """Where the figure comes from, as a sentence's end."""
        if self.speed.basis == "runs":
            number = self.speed.runs
            return f"from the epochs of {'the last run' if number == 1 else f'{number} runs'} of this network here"
        if self.speed.basis == "measured":
            return "from a few training steps of this network, timed here"
        return "scaled from another network on this computer: right within a factor of two"


def estimate(
    network: Network, split: Split, dataset: Dataset, epochs: Iterable[int], target: Target = "infection"
) -> TrainingTime | None:
    """Time of one run for each number in `epochs`; None as long as nothing like it was trained or measured here."""
    speed = find_speed(network)
    if speed is None:
        return None
    an_epoch = speed.seconds_per_slice * work(split, dataset, network.train.empty_share, target)
    seconds = sum(speed.startup + count * an_epoch for count in epochs)
    return TrainingTime(seconds, an_epoch, speed)


def find_speed(network: Network) -> Speed | None:
    """The best that is known about a network on this computer, see the top of this module."""
    known = _runs_here()
    measured = measurements()
    device = known[0].device if known else next((found.device for found in reversed(measured)), "")
    same = [run for run in known if network.same(run.key, run.batch) and run.device == device][:RECENT]
    startup = next((found.startup for found in reversed(measured) if found.device == device), STARTUP)
    if same:
        seconds = statistics.median(run.seconds_per_slice for run in same)
        return Speed(seconds, "runs", device, startup, len(same), same[0].chosen)
    for found in reversed(measured):
        if network.same(found.key, found.batch) and found.device == device:
            pace = Pace(found.batch or network.train.batch, found.learning_rate)
            return Speed(found.seconds_per_slice, "measured", device, found.startup, chosen=pace.words(network.train))
    others = [(run.macs, run.seconds_per_slice) for run in known if run.device == device]
    others += [(found.macs, found.seconds_per_slice) for found in measured if found.device == device]
    others = [(macs, seconds) for macs, seconds in others if network.macs <= ALIKE * macs]
    if not others:
        return None
    macs, seconds = min(others, key=lambda other: max(other[0] / network.macs, network.macs / other[0]))
    return Speed(seconds * network.macs / macs, "scaled", device, startup)


def work(split: Split, dataset: Dataset, empty_share: float, target: Target = "infection") -> float:
    """What an epoch costs, in training slices."""
    validation = sum(len(chosen) for chosen in split.validation.values())
    return epoch_slices(split, dataset, empty_share, target) + FORWARD * validation


def epoch_slices(split: Split, dataset: Dataset, empty_share: float, target: Target = "infection") -> int:
    """Training slices of an epoch."""
    positive = empty = 0
    for case, chosen in split.train.items():
        voxels = dataset.case(case).voxels(target) or ()
        hit = sum(1 for z in chosen if z < len(voxels) and voxels[z])
        positive, empty = positive + hit, empty + len(chosen) - hit
    return positive + round(empty_share * empty)


def multiply_accumulates(size: int, filters: int) -> float:
    """Of one slice through the U-Net, forward.

    >>> round(multiply_accumulates(256, 32) / 1e9, 2)  # as the thesis has it
    12.03
    """
    pixels, total = float(size * size), 0.0
    channels = 1
    for level in range(4):
        wide = filters * 2**level
        total += pixels / 4**level * 9 * wide * (channels + wide)
        channels = wide
    wide = filters * 16
    total += pixels / 4**4 * 9 * wide * (channels + wide)
    for level in reversed(range(4)):
        below, wide = wide, filters * 2**level
        total += pixels / 4**level * (below * wide + 9 * wide * (2 * wide + wide))
    return total + pixels * filters


def measurements() -> tuple[Measurement, ...]:
    """What was measured on this computer, oldest first; a file that cannot be read counts as none."""
    try:
        found = read_json(_calibration_json(), Calibration).measurements
    except CovsegError:
        return ()
    return tuple(one for one in found if one.host == host())


def measure(network: Network, check: Callable[[], None] = lambda: None, timeout: float = 600.0) -> Measurement:
    """Time a few training steps in a process of its own, and keep the result.

    Parameters
    ----------
    check : called a few times a second; the process is ended if it raises
    timeout : seconds

    Raises
    ------
    CovsegError : the process failed, such as for want of memory, or took too long
    """
    question = {"prepare": network.prepare, "model": network.model, "train": network.train, "slices": network.slices}
    try:
        found = json.loads(_step_time(to_json(question), check, timeout).splitlines()[-1])
        scaled = found.get("batch", network.train.batch) != network.train.batch
        measurement = Measurement(
            host(),
            network.key,
            network.macs,
            found["device"],
            found["seconds_per_slice"],
            found["startup"],
            *((found["batch"], found["learning_rate"]) if scaled else ()),
        )
    except (ValueError, KeyError, IndexError, TypeError):
        raise CovsegError("time of a training step", "no result", "one line of JSON") from None
    kept = [one for one in measurements() if _what(one) != _what(measurement)]
    write_json(_calibration_json(), Calibration(tuple([*kept, measurement][-KEPT:])))
    return measurement


def _what(measurement: Measurement) -> tuple[object, ...]:
    """A newer measurement replaces the older one of the same."""
    return measurement.key, measurement.device, measurement.batch


def _step_time(question: bytes, check: Callable[[], None], timeout: float) -> str:
    """Standard output of the calibration process."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "covseg_core.training.step_time", question.decode()],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=log,
            env=environment(),
        )
        atexit.register(child.kill)  # a dashboard that ends does not wait for its threads
        try:
            end = time.monotonic() + timeout
            while child.poll() is None:
                check()
                if time.monotonic() > end:
                    raise CovsegError(
                        "time of a training step", f"no result after {timeout:.0f} s", "a smaller network"
                    )
                time.sleep(0.2)
        finally:
            child.kill()
            child.wait()
            atexit.unregister(child.kill)
        said.seek(0)
        log.seek(0)
        if child.returncode:
            last = (log.read().decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"])[-1]
            raise CovsegError("time of a training step", f"cannot be measured ({last[:300]})", "enough memory")
        return said.read().decode(errors="replace")


@dataclass(frozen=True)
class _Trained:
    """What a run says about the speed of this computer."""

    key: str
    macs: float
    device: str
    seconds_per_slice: float
    queued: float
    batch: int
    chosen: str


def _runs_here() -> list[_Trained]:
    """Runs that trained on this computer, newest first."""
    found = [trained for run in list_runs() if (trained := _trained(run)) is not None]
    return sorted(found, key=lambda trained: trained.queued, reverse=True)


def _trained(run: Run) -> _Trained | None:
    status = read_status(run)
    if status is None or status.host != host() or not status.device or not status.epoch:
        return None
    try:
        config, rows, pace = run.config, run.history(), read_pace(run)
        validation = sum(len(chosen) for chosen in run.split.validation.values())
    except (CovsegError, ValueError):
        return None
    # the first epoch of a session holds tracing; but one epoch alone is better than nothing
    seconds = [row["seconds"] for row in rows[1:] or rows]
    slices = status.steps * pace.batch + FORWARD * validation
    if not seconds or not slices:
        return None
    network = Network(config.prepare, config.model, config.train)
    seconds_per_slice, chosen = statistics.median(seconds) / slices, pace.words(config.train)
    batch = pace.batch if chosen else 0
    return _Trained(network.key, network.macs, status.device, seconds_per_slice, status.queued, batch, chosen)


def _calibration_json() -> Path:
    return paths.data_root() / "calibration.json"
