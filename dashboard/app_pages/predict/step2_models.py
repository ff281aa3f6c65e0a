"""Step 2 of the Quick prediction page: which models, and whether lungs are measured too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from covseg_core.config import Target
from covseg_core.prediction.ask import Answers, lacking_lungs
from covseg_core.prediction.case_lungs import LUNGS
from covseg_core.runs import Run
from dashboard.app_pages.predict import offered_models, passport
from dashboard.app_pages.predict.workspace import Workspace
from dashboard.formatting import plain
from dashboard.services import tasks, url_state
from dashboard.services.model_catalog import ListedRun

MIRROR = "predict-mirror"
"""In the session: whether mirror images are asked about, too."""


@dataclass(frozen=True)
class Chosen:
    """What is to be asked."""

    models: list[ListedRun]
    lungs: ListedRun | None
    mirror: bool

    @property
    def runs(self) -> list[Run]:
        return [one.run for one in self.models]

    def answered(self, answers: Answers | None) -> bool:
        """Whether these are their answers."""
        asked = tuple(run.id for run in self.runs) + ((self.lungs.id,) if self.lungs else ())
        return answers is not None and (answers.asked, answers.mirror) == (asked, self.mirror)

    @property
    def lacks_lungs(self) -> list[str]:
        """What the models are called that look at the lungs alone, where no lung model is chosen to find them."""
        lacking = lacking_lungs(self.runs, self.lungs.run if self.lungs else None)
        return [one.label for one in self.models if one.run in lacking]


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
        help="Several models are combined to one mask, by the mean of their probabilities or by a vote.",
    )
    url_state.write(runs=ids)
    chosen = Chosen([offered[id] for id in ids], _lungs(models, target), _mirror(space))
    if twins := offered_models.same_models(chosen.models):
        st.warning(twins, icon=":material/warning:")
    elif len(ids) == 1 and len(offered) > 1:
        st.caption("Add models to see how far they agree.")
    if lacking := chosen.lacks_lungs:
        needs = "looks at the lungs alone and needs" if len(lacking) == 1 else "look at the lungs alone and need"
        st.warning(plain(f"{' and '.join(lacking)} {needs} a lung model."), icon=":material/warning:")
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


def _mirror(space: Workspace | None) -> bool:
    """Whether mirror images are to be asked about, too; at first as in the link, or as it was last."""
    if MIRROR not in st.session_state:
        last = "yes" if space and space.answers and space.answers.mirror else "no"
        st.session_state[MIRROR] = url_state.read("mirror", last, ("yes", "no")) == "yes"
    mirror = st.toggle(
        "Mirror images too",
        key=MIRROR,
        help="Each slice is also shown mirrored left to right, and the two answers are averaged. Takes twice the time.",
    )
    url_state.write(mirror="yes" if mirror else None)
    return mirror


def ask_to_go(space: Workspace | None, chosen: Chosen) -> bool:
    """Whether Predict was pressed; it cannot be where there is nothing to do."""
    running = space is not None and (task := tasks.get(space.task)) is not None and task.state == "running"
    done = space is not None and chosen.answered(space.answers)
    unready = "" if chosen.models else "Choose a model first."
    unready = "Choose a lung model first." if chosen.lacks_lungs else unready
    unready = "Choose a scan first." if space is None else unready
    disabled = bool(unready) or running or done
    go = st.button("Predict", icon=":material/bolt:", type="primary", disabled=disabled)
    if disabled and not running:
        st.caption(unready or "Done: the mask is below.")
    return go
