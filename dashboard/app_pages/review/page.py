"""Review: masks one by one, those first that are most worth the time."""

import streamlit as st

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.reviews import read_reviews
from covseg_core.errors import CovsegError
from dashboard import navigation
from dashboard.app_pages.review import case_view, link, order, readers
from dashboard.components import news
from dashboard.services import url_state
from dashboard.services.datasets import load_datasets


def main() -> None:
    st.title("Review")
    st.caption("Look at masks one by one: accept, correct or reject them. For research; not for diagnosis.")
    link.open_mask()
    news.show()
    datasets, problems = load_datasets()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if not datasets:
        st.info("There is no dataset yet.", icon=":material/database:")
        navigation.link(navigation.TRAIN, "Add data")
        return
    try:
        show(*choose(datasets))
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")


def choose(datasets: list[Dataset]) -> tuple[Dataset, order.Choice]:
    """The dataset of the URL, else the newest; which of its masks, by whom, and in which order."""
    by_name = {dataset.name: dataset for dataset in sorted(datasets, key=lambda one: one.created, reverse=True)}
    if st.session_state.get("dataset") not in by_name:
        st.session_state.dataset = url_state.read("dataset", next(iter(by_name)), by_name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Dataset", list(by_name), key="dataset", persist_state="session", width=300)
        url_state.write(dataset=name)
        return by_name[name], order.choose(by_name[name])


def show(dataset: Dataset, chosen: order.Choice) -> None:
    reviews = read_reviews(dataset)
    ranked = order.ranked(dataset, chosen)
    if not ranked:
        st.info(f"No case of {dataset.name} has a mask of this kind.", icon=":material/layers_clear:")
    case_view.show(dataset, chosen, ranked, reviews)
    readers.show(dataset, chosen.role, reviews)


main()
