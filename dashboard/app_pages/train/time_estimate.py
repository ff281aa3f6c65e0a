"""How long a training will take, on what, and how that is known; measured on the spot where nothing is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import streamlit as st

from covseg_core import runs
from covseg_core.config import Target
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.splitting.split import Split
from covseg_core.places import LOCAL
from covseg_core.runs import time_estimate
from covseg_core.runs.time_estimate import Network, TrainingTime
from dashboard.components import task_progress
from dashboard.formatting import duration
from dashboard.services import tasks


def show(network: Network, split: Split, dataset: Dataset, epochs: Sequence[int], target: Target) -> None:
    """Device and time; the first time ever, a few steps of this network are timed without being asked."""
    found = time_estimate.estimate(network, split, dataset, epochs, target)
    ahead = _active_runs()
    id, running = _task(network), tasks.running("measure")
    if found is None and id is None and not ahead and not running:
        id = _measure(network)
    ended = task_progress.show(running[0].id if running else id)  # that of another network helps this one, too
    if found is not None:
        device = ", ".join(filter(None, [found.speed.device, found.speed.chosen]))
        st.markdown(f"**Device:** {device}  \n**Time:** {_words(found, epochs, network)}")
    if ended is not None and ended.state == "failed":
        st.warning(ended.error, icon=":material/timer_off:")
    if ahead:
        st.caption(f"{ahead} {'run is' if ahead == 1 else 'runs are'} ahead in the queue; this training starts after.")
    if tasks.running("measure"):
        if found is None:
            st.caption("A few training steps are timed to estimate how long this will take. You need not wait.")
    elif found is None or found.speed.basis == "scaled":
        help = "Time a few training steps of this network; not while something trains"
        if st.button("Measure", icon=":material/timer:", help=help, disabled=bool(ahead)):
            _measure(network)
            st.rerun()


def _words(found: TrainingTime, epochs: Sequence[int], network: Network) -> str:
    trainings = "1 training" if len(epochs) == 1 else f"{len(epochs)} trainings"
    counts = " / ".join(str(count) for count in dict.fromkeys(epochs))
    most = "at most" if network.train.patience else "about"
    return (
        f"{most} {duration(found.seconds, rough=True)} for {trainings} of {counts} epochs, "
        f"{duration(found.epoch_seconds, rough=True)} an epoch; {found.origin}."
    )


def _measure(network: Network) -> str:
    def work(progress: tasks.TaskProgress, cancelled: threading.Event) -> None:
        time_estimate.measure(network, progress.check)

    id = tasks.start("measure", "Timing a few training steps", work)
    st.session_state["measure"] = network.key, id
    return id


def _task(network: Network) -> str | None:
    """This window's measurement of this network."""
    key, id = st.session_state.get("measure", (None, None))
    return id if key == network.key else None


def _active_runs() -> int:
    """On this computer."""
    here = (run for run in runs.list_runs() if run.placed.kind == LOCAL)
    statuses = (runs.read_status(run) for run in here)
    return sum(status is not None and status.state in runs.ACTIVE and status.host == runs.host() for status in statuses)
