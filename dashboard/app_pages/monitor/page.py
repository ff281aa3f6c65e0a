"""Live curves: what the selected runs have learned so far, while they learn."""

import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.figures import learning_curves as charts
from covseg_core.runs import ACTIVE
from dashboard import navigation
from dashboard.app_pages.monitor import curves, notice, previews, run_progress, run_rows
from dashboard.formatting import plain
from dashboard.services import model_catalog, run_history, url_state
from dashboard.services.model_catalog import ListedRun
from dashboard.services.run_history import Snapshot

LOOK = 2.0  # seconds between two looks at runs that train
IDLE = 10.0  # the same while none does: somebody may resume one elsewhere


def main() -> None:
    st.title("Live curves")
    known, problems = model_catalog.listed_runs()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if not known:
        show_empty_state()
        return
    all_names = run_progress.names(known, st.context.timezone)
    notice.show(all_names)
    run_rows.ask_before_deleting(known)
    selected = choose_runs(known)
    if not selected:
        st.info("Choose at least one run to see its curves.", icon=":material/info:")
        return
    curves.choose_view()
    active = any(item.status.state in ACTIVE for item in look(selected)[0])
    notice.notify(all_names, active)
    pace = LOOK if active else IDLE
    names = run_progress.names(selected, st.context.timezone)
    st.fragment(show_live, run_every=pace)(selected, names, {item.id for item in known}, active)
    if models := model_catalog.compared([item.id for item in selected]):
        navigation.link(navigation.COMPARE, "Compare these runs", query_params={"runs": ",".join(models)})
    st.subheader("What the model sees")
    previews.show(selected, names)


def show_empty_state() -> None:
    with st.container(border=True):
        st.subheader("No run yet")
        st.markdown("Curves appear here as soon as a training is started.")
        navigation.link(navigation.TRAIN, "Go to data and training")


def choose_runs(known: list[ListedRun]) -> list[ListedRun]:
    """The runs of the link, else of one experiment; the choice goes back to the link."""
    ids = [item.id for item in known]
    names = run_progress.names(known, st.context.timezone)
    if "monitor_runs" not in st.session_state:
        asked = url_state.read("runs", run_history.preselected(known))
        st.session_state.monitor_runs = [id for id in asked if id in ids]
        if missing := url_state.gone("runs", ids, ""):
            st.warning(plain(missing), icon=":material/search_off:")
    else:
        # a run that was deleted meanwhile is no option any more
        kept = [id for id in st.session_state.monitor_runs if id in ids]
        if kept != st.session_state.monitor_runs:
            st.session_state.monitor_runs = kept
    chosen = st.multiselect("Runs", ids, format_func=names.__getitem__, key="monitor_runs", placeholder="Choose runs")
    url_state.write(runs=chosen)
    by_id = {item.id: item for item in known}
    st.session_state.monitor_slots = charts.slots(chosen, st.session_state.get("monitor_slots", {}))
    return [by_id[id] for id in chosen]


def look(selected: list[ListedRun]) -> tuple[list[Snapshot], list[str]]:
    """The runs as they stand, and one line for each that cannot be read."""
    seen, problems = [], []
    for item in selected:
        try:
            seen.append(run_history.look(item))
        except CovsegError as error:
            problems.append(str(error))
    return seen, problems


def show_live(selected: list[ListedRun], names: dict[str, str], known: set[str], was_active: bool) -> None:
    """Curves and runs; looks again by itself."""
    if {item.id for item in model_catalog.listed_runs()[0]} != known:
        st.rerun()  # a run was started or deleted elsewhere
    seen, problems = look(selected)
    notice.follow(seen)
    if any(item.status.state in ACTIVE for item in seen) != was_active:
        st.rerun()  # at another pace from now on
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    curves.show(seen, names)
    run_rows.show_runs(seen, names)


main()
