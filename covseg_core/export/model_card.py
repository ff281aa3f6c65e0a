"""What a model is, in a page: that of a shipped model, or one made of a run's settings and scores."""

from __future__ import annotations

from collections.abc import Mapping

from covseg_core.config import METRICS
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.stored_scores import stored_pooled
from covseg_core.runs import Run
from covseg_core.runs.labels import read_labels
from covseg_core.runs.setting_values import setting_values


def model_card(run: Run) -> str:
    """In Markdown.

    Raises
    ------
    CovsegError : the run's settings or labels cannot be read
    """
    try:
        return (run.folder / "README.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise CovsegError(run.folder / "README.md", str(error), "text") from None
    config, labels = run.config, read_labels(run)
    parts = [f"# {labels.name or run.id}", labels.note]
    parts.append(
        f"A U-Net that outlines {config.target} on axial slices of chest CT, compiled with "
        f"{METRICS[config.metric].word}, trained on the dataset {config.dataset} with covseg. "
        "**For research only. Not a medical device: not for diagnosis or treatment.**"
    )
    try:
        scores = {name: value for name, value in stored_pooled(run).items() if value is not None}
        parts.append(_table("Test part, pooled over all voxels", "measure", {n: f"{v:.4f}" for n, v in scores.items()}))
    except RunError:
        parts.append("It has not been scored on its test part.")
    parts.append(_table("Settings", "setting", setting_values(config)))
    parts.append(_table("Software", "package", config.versions))
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(heading: str, first: str, rows: Mapping[str, object]) -> str:
    lines = [f"| `{name}` | {value} |" for name, value in rows.items()]
    return "\n".join([f"## {heading}", "", f"| {first} | value |", "|---|---|", *lines])
