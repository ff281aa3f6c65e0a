"""A run in words: how far it is, how long it still takes, what it is called. No Streamlit here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from covseg_core.config import METRICS
from covseg_core.runs import ACTIVE
from covseg_core.runs.history import best_epoch
from dashboard.formatting import duration, when
from dashboard.services.model_catalog import ListedRun
from dashboard.services.run_history import Snapshot

RECENT = 5
"""Epochs from which the time left is told."""


def progress_text(seen: Snapshot) -> str:
    """Epoch n of N, and what follows from it."""
    status, done = seen.status, seen.epochs_done
    parts = [f"Epoch {done} of {status.epochs}"]
    if status.state in ACTIVE:
        if left := time_left(seen):
            parts.append(f"about {duration(left, rough=True)} left")
        parts.append(status.reason)
    elif done:
        parts.append(f"{duration(float(seen.history['total_seconds'][-1]))} of training")
        if status.state == "stopped":
            parts.append(status.reason)
    return " · ".join(filter(None, parts))


def score_text(seen: Snapshot) -> str:
    """`Dice 0.7123, best 0.7310 in epoch 9`: the run's own metric on the validation slices; empty before the first."""
    row = METRICS[seen.config.metric]
    if not seen.epochs_done:
        return ""
    scores = seen.history[f"val_{row.score}"].tolist()
    best = best_epoch(scores)
    highest = f", best {scores[best - 1]:.4f} in epoch {best}" if best else ""
    return f"{row.score_label} {scores[-1]:.4f}{highest}"


def time_left(seen: Snapshot) -> float | None:
    """Seconds until the last epoch ends, from the mean of the last few; None if nothing is known yet.

    Early stopping may end it sooner. The first epoch, which loads and compiles, counts only while it is the only one.
    """
    done, status = seen.epochs_done, seen.status
    if status.state != "running" or not done:
        return None
    recent = seen.history["seconds"][min(1, done - 1) :][-RECENT:]
    of_this_one = status.step / status.steps if status.steps and status.epoch == done else 0.0
    return max(0.0, float(np.mean(recent)) * (status.epochs - done - of_this_one)) or None


def names(known: Sequence[ListedRun], timezone: str | None) -> dict[str, str]:
    """A short name for each run: its metric, and what else tells it from the others.

    Within one experiment metric, fold and seed are enough; where nothing else helps, the id is the name.
    """
    zone = _zone(timezone)
    several_datasets = len({item.config.dataset for item in known}) > 1
    several_kinds = len({item.config.split.kind for item in known}) > 1
    several_experiments = len({item.config.experiment for item in known}) > 1
    found = {}
    for item in known:
        parts = [METRICS[item.config.metric].label]
        if several_kinds:
            parts.append(f"by {item.config.split.kind}")
        if item.config.split.folds:
            parts.append(f"fold {item.config.split.fold}")
        if item.config.train.seeds:
            parts.append(f"seed {item.config.train.seed_number}")
        if several_datasets:
            parts.append(item.config.dataset)
        if several_experiments:
            parts.append(when(item.config.created, zone))
        found[item.id] = " · ".join(filter(None, parts))
    counts = Counter(found.values())
    return {id: name if counts[name] == 1 else id for id, name in found.items()}


def _zone(name: str | None) -> tzinfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None
