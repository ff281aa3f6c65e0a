"""Runs: all runs and experiments, to be found, named, compared and deleted."""

import streamlit as st

from dashboard import navigation
from dashboard.app_pages.runs import actions, editor, filters, rows, run_table, score_charts, training_queue
from dashboard.services import url_state

LOOK = 5.0  # seconds between two looks at whether a run was started, went on or ended


def main() -> None:
    st.title("Runs")
    editor.do_what_was_written()
    found, problems = rows.run_rows()
    show_news(problems)
    if not found:
        show_empty_state()
        return
    by_id = {row.id: row for row in found}
    if editor.CHOSEN not in st.session_state:
        editor.choose(url_state.read("runs", [], by_id))
    wanted = filters.choose(found)
    shown = wanted.of(found)
    if wanted.view == "Runs":
        groups = [[row] for row in shown]
    else:
        groups = rows.experiments(shown)
    chosen = [by_id[id] for id in by_id if id in editor.chosen()]
    url_state.write(runs=[row.id for row in chosen])
    show_table(wanted.view, groups, filters.known_tags(found))
    actions.show(chosen, shown)
    score_charts.show(chosen)
    training_queue.show()
    watch(tuple(row.stamp for row in found))


def show_news(problems: list[str]) -> None:
    """Say, once, what the last click did, and what cannot be read."""
    if news := st.session_state.pop("runs_news", None):
        st.success(news, icon=":material/check_circle:")
    if trouble := st.session_state.pop("runs_trouble", None):
        st.error(trouble, icon=":material/error:")
    for problem in problems:
        st.warning(problem, icon=":material/warning:")


def show_empty_state() -> None:
    with st.container(border=True):
        st.subheader("No run yet")
        st.markdown("Runs appear here as soon as a training is started.")
        navigation.link(navigation.TRAIN, "Go to data and training")


def show_table(view: filters.View, groups: list[list[rows.RunRow]], known_tags: list[str]) -> None:
    if not groups:
        st.info("Nothing fits. Take a word or a filter away.", icon=":material/search_off:")
        return
    if view == "Runs":
        table = run_table.run_table([row for group in groups for row in group], editor.chosen())
    else:
        table = run_table.experiment_table(groups, editor.chosen())
    editor.show(table, groups, known_tags)


@st.fragment(run_every=LOOK)
def watch(drawn: tuple[object, ...]) -> None:
    """Draw the page again once a run has changed, and not before: who writes in a cell is not to be disturbed."""
    if tuple(row.stamp for row in rows.run_rows()[0]) != drawn:
        st.rerun()


main()
