"""The power fails, or the system ends a training because memory ran out."""

from __future__ import annotations

import random
import time

import numpy as np

from campaigns.row import Row
from campaigns.trainings import DATASET, TINY, import_phantoms, no_worker_is_left, until, worker_of
from covseg_core.files import read_json
from covseg_core.runs import ACTIVE, Run, jobs, list_runs

WHAT = "kill -9 of a training at a random moment, then resume: lost at once, and in the end the curve and the scores of"
WHAT += " a training that nobody killed"
FULL, SMALL, SECONDS, TRAINS = 200, 1, 3 * 3600, True

EPOCHS = 6
MOST = 5
"""Kills of one training at most, so that each ends."""
PATIENCE = 600.0
"""Seconds to wait for anything, as long as other work on this machine may take."""
STARTUP = 8.0
"""Seconds until the first epoch, about: on a slow machine these moments are earlier in it."""


def run(count: int, seed: int) -> Row:
    """Trainings one after another, each killed a few times, until so many kills have hit."""
    chance, row, trainings = random.Random(seed), Row(), 0
    with no_worker_is_left():
        whole = uninterrupted()
        epochs = whole.config.train.epochs
        while row.count < count:
            trainings += 1
            said = f"training {trainings} of seed {seed}"
            [broken] = jobs.train(DATASET, ["dice"], epochs=epochs, **TINY)  # type: ignore[arg-type]
            for _ in range(min(count - row.count, chance.randint(1, MOST))):
                try:
                    moment = wait_for_a_moment(broken, whole, chance)
                except Exception as error:
                    row.failures.append(f"{said}: {error}")
                    break
                if not moment:
                    break
                row.attempt(f"{said}, {moment}", lambda broken=broken: kill(broken))  # type: ignore[misc]
                if broken.status.state != "queued":
                    break
            try:
                compare(broken, whole)
            except Exception as error:
                row.failures.append(f"{said}: {' '.join(str(error).split())}"[:500])
    row.note = f"{trainings} trainings"
    return row


def uninterrupted() -> Run:
    """A training that nobody killed: one that is there already, or a new one."""
    for run in list_runs():
        if run.status.state == "finished" and run.config.metric == "dice":
            return run
    import_phantoms()
    [whole] = jobs.train(DATASET, ["dice"], epochs=EPOCHS, **TINY)  # type: ignore[arg-type]
    jobs.wait([whole])
    assert whole.status.state == "finished", whole.log.read_text()[-500:]
    return whole


def wait_for_a_moment(broken: Run, whole: Run, chance: random.Random) -> str:
    """Before, during or after the epochs; which it was, or nothing if the training was faster."""
    done, epochs = len(broken.history()), broken.config.train.epochs
    kind = chance.choices(["start", "epochs", "end"], [1, 3 if done < epochs else 0, 1])[0]
    if kind == "start":
        time.sleep(chance.uniform(0, STARTUP))
    elif kind == "epochs":
        at = chance.randrange(done, epochs)
        until(lambda: broken.status.state == "running" or _over(broken), PATIENCE, "to run")
        until(lambda: len(broken.history()) >= at or _over(broken), PATIENCE, f"for epoch {at}")
        time.sleep(chance.uniform(0, float(np.median([row["seconds"] for row in whole.history()]))))
    else:
        until(lambda: broken.status.reason == "exporting" or _over(broken), PATIENCE, "for the export")
        time.sleep(chance.uniform(0, STARTUP / 4))
    return "" if _over(broken) else f"{kind} after epoch {len(broken.history())}"


def kill(broken: Run) -> None:
    """It is lost in that moment, unless it has just said its last word, and can then be resumed."""
    worker = worker_of(broken)
    worker.kill()
    worker.wait()
    state = broken.status.state
    if state == "finished":
        return
    assert state == "lost", f"is {state} after its process was killed"
    jobs.resume(broken)
    state = broken.status.state
    assert state == "queued", f"is {state} after it was resumed: {broken.log.read_text()[-300:]}"


def compare(broken: Run, whole: Run) -> None:
    """Let it finish: nobody can tell from curve and scores what happened."""
    jobs.wait([broken])
    status = broken.status
    assert status.state == "finished", f"{status.state} ({status.reason}): {broken.log.read_text()[-300:]}"
    curves = [[_learned(row) for row in run.history()] for run in (whole, broken)]
    assert [list(row) for row in curves[0]] == [list(row) for row in curves[1]], "other columns or epochs"
    pairs = [(row[name], found[name]) for row, found in zip(*curves, strict=True) for name in row]
    worst = max(abs(one - other) for one, other in pairs)
    assert worst <= 1e-6, f"the curve differs by {worst:.2g}"
    scores = [read_json(run.evaluation, dict)["model"]["pooled"]["dice"] for run in (whole, broken)]
    assert abs(scores[0] - scores[1]) <= 1e-6, f"Dice {scores[1]}, not {scores[0]}"
    assert broken.onnx.exists() and broken.test_predictions.exists()


def _learned(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "seconds" not in name}


def _over(run: Run) -> bool:
    return run.status.state not in ACTIVE
