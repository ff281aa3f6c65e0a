"""What is known of a model before it is asked: its score, what it has learned from, its card. No Streamlit here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from covseg_core.errors import CovsegError
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.evaluation.wording import plural
from covseg_core.runs.training_data import read_training_data
from dashboard.app_pages.predict.offered_models import recommended
from dashboard.services import operating_points
from dashboard.services.model_catalog import ListedRun


@dataclass(frozen=True)
class Facts:
    """Of one model."""

    dice: float | None
    """Mean over scans; None where it was never scored."""
    on: str
    """Which scans those are."""
    learned: str
    """What it was trained with."""
    card: Path | None
    """A file of Markdown; only shipped models have one."""


def facts(model: ListedRun) -> Facts:
    """Read from the run's folder; files are read again only when they have changed."""
    dice, on = _score(model)
    data = read_training_data(model.run)
    learned = f"{data.slices:,} slices of {plural(data.scans, 'scan')}, " if data else ""
    card = model.run.folder / "README.md"
    return Facts(
        dice, on, f"{learned}dataset {model.config.dataset}", card if model.shipped and card.is_file() else None
    )


def label(model: ListedRun) -> str:
    """As the list of models shows it."""
    mark = "recommended" if recommended(model) else "shipped" if model.shipped else ""
    dice = _score(model)[0]
    return " · ".join(filter(None, [model.label, mark, "" if dice is None else f"Dice {dice:.2f}"]))


def _score(model: ListedRun) -> tuple[float | None, str]:
    try:
        summary = stored_scores(model.run).model.over_scans.get("dice")
        return (summary.mean, plural(summary.n, "test scan")) if summary else (None, "")
    except CovsegError:  # never scored; its operating point may say how good it is where that was chosen
        point = operating_points.point(model.run)
        return (point.score, f"{plural(point.scans, 'scan')} ({point.measure})") if point else (None, "")
