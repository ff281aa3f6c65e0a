"""Classical methods beside the models of the Compare page: worked out in a task when somebody asks for them."""

from __future__ import annotations

from collections.abc import Hashable

from covseg_core.evaluation.classical_methods import METHODS, with_methods
from covseg_core.evaluation.results import Comparison
from dashboard.components import task_progress
from dashboard.services import tasks


def joined(comparison: Comparison) -> Comparison:
    """With the classical methods, once they have been worked out; they are kept for an hour."""
    task = task_progress.task_of(_key(comparison))
    return task.result if task is not None and task.state == "finished" else comparison


def ask(comparison: Comparison) -> None:
    """The button that starts it, unless they are there."""
    if comparison.evaluations[0].target != "infection" or any(one.name in METHODS for one in comparison.baselines):
        return

    def work(progress: tasks.TaskProgress, cancelled: object) -> Comparison:
        progress.phase("Segmenting as before there were networks", "slices")
        return with_methods(comparison, progress)

    task_progress.task_button(
        _key(comparison),
        "Add classical methods",
        work,
        doing="Classical methods",
        cancelled="The classical methods were cancelled.",
        icon=":material/history_edu:",
    )


def _key(comparison: Comparison) -> Hashable:
    return ("classical", comparison.key)
