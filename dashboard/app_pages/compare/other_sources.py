"""On the Compare page: how the models do on data of other sources than their own."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.studies.source_drop import Drops, drops_of
from covseg_core.evaluation.studies.source_matrix import Cell, Shift, by_model
from covseg_core.evaluation.studies.source_shift import measure_shift, stored_shift
from covseg_core.runs import Run
from dashboard.app_pages.compare import score_table
from dashboard.components import task_progress
from dashboard.services import tasks

OPEN, CHOICE = "compare-shift", "compare-shift-datasets"
UNKNOWN = "not scored"
READ = (
    "Per scan: mean Dice ± standard deviation over n scans; in stacks of unrelated slices each slice counts. Pooled: "
    "Dice over all voxels. *Own* is the model's own test part; elsewhere it is scored on all of the dataset. LEAKY: "
    "it has learned from patients of that dataset, so the score is too good."
)


def show(chosen: Sequence[Model]) -> None:
    """Nothing is read before the expander is opened. The models need nothing in common but what they outline."""
    if len({model.config.target for model in chosen}) > 1:
        return
    box = st.expander("Other sources", icon=":material/swap_horiz:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        try:
            _show(chosen)
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")


def _show(chosen: Sequence[Model]) -> None:
    models = {model.id: model.runs for model in chosen}
    runs = [run for several in models.values() for run in several]
    own = {run.config.dataset for run in runs}
    others = [name for name in list_datasets() if name not in own and _usable(name, runs)]
    names = st.multiselect(
        "Datasets beside those of the models",
        others,
        others,
        key=CHOICE,
        placeholder="None",
        help="Models are scored on all of them. Import each source as a dataset of its own to see what it changes.",
    )
    found = stored_shift(runs, names)
    matrix = by_model(found, models)
    st.dataframe(table(matrix, names_of(chosen)), hide_index=True, height="content")
    st.caption(READ)
    _show_drops(drops_of(matrix, models))
    for doubt in found.doubts:
        st.warning(doubt, icon=":material/warning:")
    if len(found.cells) < len(found.runs) * len(found.datasets):
        _offer(runs, names)


def _show_drops(found: Drops) -> None:
    """How much lower the models score elsewhere, a sentence each."""
    if found.drops:
        st.markdown("\n".join(f"- {drop.sentence}" for drop in found.drops))
        st.caption(" ".join(found.notes))


def table(found: Shift, names: dict[str, str]) -> pd.DataFrame:
    """Two rows a dataset, a column a model, as text."""
    rows = []
    for dataset in found.datasets:
        cells = {names[run]: found.cell(run, dataset) for run in found.runs}
        rows.append({"Dataset": dataset, "Dice": "per scan"} | {name: _mean(cell) for name, cell in cells.items()})
        rows.append({"Dataset": dataset, "Dice": "pooled"} | {name: _pooled(cell) for name, cell in cells.items()})
    return pd.DataFrame(rows)


def _mean(cell: Cell | None) -> str:
    if cell is None:
        return UNKNOWN
    if cell.dice is None:
        return score_table.UNDEFINED
    return " · ".join([f"{wording.spread(cell.dice, 'dice')} (n {cell.dice.n})", *cell.marks])


def _pooled(cell: Cell | None) -> str:
    return UNKNOWN if cell is None else wording.number(cell.pooled_dice, "dice", 3) or score_table.UNDEFINED


def _offer(runs: list[Run], names: list[str]) -> None:
    """The button, or how far it is."""

    def work(progress: tasks.TaskProgress, cancelled: object) -> None:
        measure_shift(runs, names, progress)  # keeps it in the runs' folders

    task_progress.task_button(
        ("shift", *(run.id for run in runs), *names),
        "Score what is missing",
        work,
        doing="Scoring on other sources",
        cancelled="Scoring was cancelled; what was ready before is kept.",
        icon=":material/calculate:",
    )


def names_of(chosen: Sequence[Model]) -> dict[str, str]:
    """Columns: the models' names on the page, and what they have learned from where that differs."""
    names = wording.names_of([model.config.metric for model in chosen])
    sources = [model.config.dataset for model in chosen]
    several = len(set(sources)) > 1
    return {
        model.id: f"{name} · {source}" if several else name
        for model, name, source in zip(chosen, names, sources, strict=True)
    }


def _usable(name: str, runs: Sequence[Run]) -> bool:
    """Whether it can be read and has masks of what the models outline."""
    try:
        return any(runs[0].config.target in case.files for case in load_dataset(name).cases)
    except CovsegError:
        return False
