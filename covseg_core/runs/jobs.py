"""Start, stop, resume and wait for trainings, for the dashboard and the command line; the work is the worker's."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import filelock

from covseg_core import paths
from covseg_core.config import (
    METRICS,
    MOST_SEEDS,
    THESIS,
    Metric,
    Region,
    RunConfig,
    Schedule,
    SplitConfig,
    SplitKind,
    Target,
    training_seed,
)
from covseg_core.config import preset as preset_named
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.splitting.split import Split, make_splits
from covseg_core.errors import PlaceError, RunError, SettingError
from covseg_core.files import safe_name
from covseg_core.places import LOCAL, SLURM, Local, Placed, devices, local, place_named, slurm, write_placed
from covseg_core.runs import ACTIVE, RESUMABLE, Run, Status, create_run, delete_run, host, turns
from covseg_core.runs.liveness import WorkerLock, lock_held, this_process
from covseg_core.runs.lung_model import without_lungs
from covseg_core.runs.preset_changes import PresetChanges
from covseg_core.runs.run import reserved
from covseg_core.runs.starting_point import StartingPoint, starting_point
from covseg_core.version import __version__

_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "opencv-python-headless", "nibabel")

_NAMING = 60.0
"""Seconds for which others may be making runs, which takes them a moment."""


def train(
    dataset: str,
    metrics: Sequence[Metric] | None = None,
    preset: str | None = None,
    split: SplitKind = "patient",
    target: Target | None = None,
    *,
    epochs: int | None = None,
    size: int | None = None,
    filters: int | None = None,
    batch: int | None = None,
    region: Region | None = None,
    context: int | None = None,
    learning_rate: float | None = None,
    schedule: Schedule | None = None,
    patience: int | None = None,
    augmentation: str | None = None,
    ema: float | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    folds: int = 0,
    leave_out: Sequence[str] = (),
    seeds: int = 1,
    start_from: str | None = None,
    place: str = LOCAL,
) -> list[Run]:
    """Create one run for each metric, alike in everything else, and start them; on this machine they train one after
    another on each device.

    With folds that many for each metric, the first fold's runs first, so that they can be compared while others train.
    With several seeds all of that so many times on the same split, the first seed's runs first.

    Parameters
    ----------
    dataset : its newest revision; or `NAME@2`, as it was at that one
    metrics, preset, target : None for the thesis's three, `quick` and infection; with `start_from`, those of that run
    epochs, size, filters, batch, region, context, learning_rate, schedule, patience, ema : in place of the preset's
    augmentation : in place of the preset's, by its name in `covseg_core.config.AUGMENTATIONS`
    seed : of the split, the first weights, the shuffling and the augmentation
    split_seed : of the split, where it shall not be `seed`: models of other seeds on the same patients
    folds : of a cross-validation, in which every patient is tested once; 0 or 1 for a single split
    leave_out : ids of cases that are neither trained nor tested on, see `SplitConfig`; `reviews.rejected` names some
    seeds : trainings of each metric (and fold), each with the seed that `training_seed` gives it, so that no two
        metrics share one; 1 for one training each, all of them with `seed` itself
    start_from : id of a run whose best weights they start from, see `starting_point`; then network, slices and split
        are that run's, and the learning rate is a tenth of the preset's if it is not given

    place : where they are trained: `local`, or the name of another one in `places.toml`

    Raises
    ------
    CovsegError : the data set, a setting or the place cannot be used; then no run is left behind
    """
    at = _ready(place)
    if not 1 <= seeds <= MOST_SEEDS:
        raise SettingError("seeds", repr(seeds), f"1 to {MOST_SEEDS}")
    data = load_dataset(dataset)
    start_at = None if start_from is None else starting_point(start_from)
    metrics = metrics or ((start_at.config.metric,) if start_at else THESIS)
    preset = preset or (start_at.config.preset if start_at else "quick")
    target = target or (start_at.config.target if start_at else "infection")
    base = preset_named(preset)
    changes = PresetChanges(
        epochs, size, filters, batch, region, context, learning_rate, schedule, patience, augmentation, ema
    )
    if start_at is not None:
        start_at.check(changes, target)
        base = start_at.preset(base)
    prepare, model = changes.prepare(base), changes.model(base)
    without_lungs(data, prepare)  # the worker could only fail of it
    folds = 0 if folds == 1 else folds
    split_config = SplitConfig(
        kind=split,
        seed=seed if split_seed is None else split_seed,
        folds=folds,
        fold=min(folds, 1),
        leave_out=tuple(sorted(set(leave_out))),
    )
    splits = [start_at.split(data, split_config)] if start_at else make_splits(data, split_config, target)
    now = datetime.now(UTC)

    def config(experiment: str, metric: Metric, slices: Split, number: int) -> RunConfig:
        """Of one run; `number`: which of the seeds, 0 if there is one."""
        training = changes.train(
            base,
            metric,
            seed=training_seed(seed, metric, number) if number else seed,
            seeds=seeds if number else 0,
            seed_number=number,
        )
        fold = f"-fold{slices.config.fold}of{folds}" if folds else ""
        return RunConfig(
            id=f"{experiment}-{metric}{training.seed_suffix}{fold}",
            experiment=experiment,
            dataset=data.name,
            revision=data.revision,
            fingerprint=data.fingerprint,
            metric=metric,
            preset=preset,
            created=now.isoformat(timespec="microseconds"),
            target=target,
            prepare=prepare,
            split=slices.config,
            model=model,
            train=training,
            parent=start_at.run.id if start_at else "",
            parent_data=start_at.config.data if start_at else "",
            versions=versions(),
        )

    numbers = range(1, seeds + 1) if seeds > 1 else [0]
    planned = [(metric, slices, number) for number in numbers for slices in splits for metric in metrics]
    with _naming():
        experiment = _free_name(f"{now:%Y%m%d-%H%M%S}-{data.name}"[:64])
        configs = [config(experiment, *one) for one in planned]
        runs = _create(configs, [slices for _, slices, _ in planned], start_at, at)
    try:
        for run in runs:
            start(run)
    except BaseException:
        for run in runs:  # who has no worker is lost, and can be resumed; this process will not start it any more
            if not lock_held(run.folder) and run.written_status.process == this_process():
                run.write_status(dataclasses.replace(run.written_status, process=""))
        raise
    return runs


def _create(
    configs: Sequence[RunConfig], splits: Sequence[Split], start_at: StartingPoint | None, at: Placed
) -> list[Run]:
    """All runs or none."""
    runs: list[Run] = []
    try:
        for config, slices in zip(configs, splits, strict=True):
            runs.append(create_run(config, slices))
            write_placed(runs[-1].folder, at)
            if start_at is not None:
                start_at.hand_over(runs[-1])
    except BaseException:
        for run in runs:
            run.write_status(dataclasses.replace(run.status, state="stopped"))
            delete_run(run)
        raise
    return runs


def start(run: Run, lock: WorkerLock | None = None) -> None:
    """Send a run that is in the queue to its place, where its worker starts.

    Parameters
    ----------
    lock : of its worker, where it is taken already; it goes over to the new process

    Raises
    ------
    RunError : it has a worker
    PlaceError : its place does not take it; then it has failed, and can be resumed
    """
    if lock is None:
        lock = WorkerLock(run.folder)
        if not lock.take():
            raise RunError(run.id, "another worker has this run")
        # from here on the lock tells whether it lives, and no longer whether this process does
        run.write_status(dataclasses.replace(run.written_status, process=""))
    try:
        place = place_named(run.placed.place)
        if isinstance(place, Local):
            local.submit(run.folder, lock.fd, host())
        else:
            slurm.submit(place, run.folder, host())
    except PlaceError as error:
        run.write_status(dataclasses.replace(run.written_status, state="failed", reason=str(error)))
        raise
    finally:
        lock.hand_over()


def stop(run: Run) -> None:
    """Ask a run to stop; it does at the end of the batch, and at once if its job waits at SLURM.

    Raises
    ------
    RunError : it is neither queued nor running
    PlaceError : its job waits, and SLURM does not answer
    """
    state = run.status.state
    if state not in ACTIVE:
        raise RunError(run.id, f"is {state}", "a run that is queued or running")
    run.stop_file.touch()
    if run.placed.kind != LOCAL:
        _take_back(run)


def _take_back(run: Run) -> None:
    """A job that has not begun cannot see that it is to stop."""
    lock = WorkerLock(run.folder)
    if not lock.take():
        return
    try:
        status = run.by_queue(run.written_status)
        if status.state == "queued":
            slurm.cancel(run.placed)
            run.write_status(dataclasses.replace(status, state="stopped", reason="stopped while it waited"))
            run.stop_file.unlink(missing_ok=True)
    finally:
        lock.release()


def resume(run: Run, place: str | None = None) -> None:
    """Put a run that ended early at the end of the queue; it goes on from its last complete epoch.

    Parameters
    ----------
    place : where it goes on; None for where it was

    Raises
    ------
    RunError : it is still active, or finished
    PlaceError : the place does not take it
    """
    at = _ready(run.placed.place if place is None else place)
    expected = f"a run that is {', '.join(RESUMABLE[:-1])} or {RESUMABLE[-1]}"
    with reserved(run, RESUMABLE, expected) as (status, lock):
        run.stop_file.unlink(missing_ok=True)
        turns.forget(run)
        write_placed(run.folder, at)
        now = time.time()
        run.write_status(
            Status("queued", queued=now, heartbeat=now, host=host(), epoch=status.epoch, epochs=status.epochs)
        )
        start(run, lock)


def _ready(name: str) -> Placed:
    """A place that takes runs; raises `PlaceError`."""
    place = place_named(name)
    if isinstance(place, Local):
        devices.slots()  # a wrong one would be the end of each worker
        return Placed(name, LOCAL, host())
    slurm.ready(place)
    return Placed(name, SLURM, host())


def wait(runs: Sequence[Run], watch: Callable[[], None] = lambda: None, poll: float = 0.5) -> None:
    """Return when none of the runs is active any more; `watch` is called before each look."""
    while True:
        watch()
        local.collect()
        if not any(run.status.state in ACTIVE for run in runs):
            break
        time.sleep(poll)
    local.wait({run.folder for run in runs})


def backend() -> str:
    """The Keras backend that workers use."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def versions() -> dict[str, str]:
    """Versions of covseg, Python and the installed packages that can change a result, and the Keras backend."""
    found = {"covseg": __version__, "python": platform.python_version()}
    found["backend"] = backend()
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def _naming() -> Iterator[None]:
    """A name that is free stays free until its runs are made: one at a time, also of computers that share a folder."""
    folder = paths.checkpoints_root() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "names.lock", timeout=_NAMING):
            yield
    except filelock.Timeout as timeout:
        raise RunError(timeout.lock_file, f"another process has held it for {_NAMING:.0f} s", "to make runs") from None


def _free_name(name: str) -> str:
    """The name, with a number if runs of that name exist."""
    safe_name(name, "experiment")
    root = paths.checkpoints_root()
    candidate, number = name, 1
    endings = ("", "-fold*", "-seed*")
    while any(next(root.glob(f"{candidate}-{metric}{ending}"), None) for metric in METRICS for ending in endings):
        number += 1
        candidate = f"{name}-{number}"
    return candidate
