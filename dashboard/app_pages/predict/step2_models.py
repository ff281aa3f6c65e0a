"""Step 2 of the Quick prediction page: which models, and whether lungs are measured too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from covseg_core.config import Target
from covseg_core.prediction.case_lungs import LUNGS
from covseg_core.runs import Run
from dashboard.app_pages.predict import offered_models, passport
from dashboard.app_pages.predict.workspace import Workspace
from dashboard.services import tasks, url_state
from dashboard.services.model_catalog import ListedRun


@dataclass(frozen=True)
class Chosen:
    """What is to be asked."""

    models: list[ListedRun]
    lungs: ListedRun | None

    @property
    def runs(self) -> list[Run]:
        return [one.run for one in self.models]

    @property
    def asked(self) -> tuple[str, ...]:
        """Ids, as `Answers.asked` has them."""
        return tuple(run.id for run in self.runs) + ((self.lungs.id,) if self.lungs else ())


def show_models(models: list[ListedRun], space: Workspace | None) -> Chosen:
    """Something sensible is chosen already."""
    st.subheader("2. Models")
    targets = [target for target in offered_models.TARGETS if any(one.config.target == target for one in models)]
    target = targets[0]
    if len(targets) > 1:
        target = st.segmented_control(
            "What to outline", targets, default=target, format_func=offered_models.TARGETS.__getitem__, required=True
        )
    offered = {one.id: one for one in models if one.config.target == target}
    shown = [run for run in (space.answers.runs if space and space.answers else ()) if run in offered]
    default = url_state.read("runs", shown or offered_models.preselected(list(offered.values())), offered)
    ids = st.multiselect(
        "Models",
        list(offered),
        default,
        format_func=lambda id: offered[id].label,
        key=f"models-{target}",
        placeholder="Choose at least one",
        wrap=True,
        help="Several models vote: a voxel is in the mask if more than half of the models mark it.",
    )
    url_state.write(runs=ids)
    chosen = Chosen([offered[id] for id in ids], _lungs(models, target))
    if twins := offered_models.same_models(chosen.models):
        st.warning(twins, icon=":material/warning:")
    elif len(ids) == 1 and len(offered) > 1:
        st.caption("Add models to see how far they agree.")
    if space and space.scan:
        passport.show_unusual(space.scan, [*chosen.models, *([chosen.lungs] if chosen.lungs else [])])
    return chosen


def _lungs(models: Sequence[ListedRun], target: Target) -> ListedRun | None:
    """The lung model beside models of the infection; the shipped one unless it is turned off."""
    offered = {one.id: one for one in models if one.config.target == "lung"}
    if target == "lung" or not offered:
        return None
    choices = [None, *offered]
    id = st.selectbox(
        "Lung model",
        choices,
        choices.index(LUNGS) if LUNGS in offered else 0,
        format_func=lambda id: offered[id].label if id else "None",
        help="Tells which share of each lung is infected, and leaves out what lies beyond the chest.",
    )
    return offered[id] if id else None


def ask_to_go(space: Workspace | None, chosen: Chosen) -> bool:
    """Whether Predict was pressed; it cannot be where there is nothing to do."""
    running = space is not None and (task := tasks.get(space.task)) is not None and task.state == "running"
    done = space is not None and space.answers is not None and space.answers.asked == chosen.asked
    unready = "Choose a scan first." if space is None else "" if chosen.models else "Choose a model first."
    disabled = bool(unready) or running or done
    go = st.button("Predict", icon=":material/bolt:", type="primary", disabled=disabled)
    if disabled and not running:
        st.caption(unready or "Done: the mask is below.")
    return go
