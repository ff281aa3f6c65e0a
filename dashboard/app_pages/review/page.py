"""Review: masks one by one, those first that are most worth the time."""

import streamlit as st

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.reviews import read_reviews
from covseg_core.errors import CovsegError
from dashboard import navigation
from dashboard.app_pages.review import case_view, link, order, readers
from dashboard.components import dataset_choice, news
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
    """The dataset; which of its masks, by whom, and in which order."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = dataset_choice.choose(datasets, width=300)
        return dataset, order.choose(dataset)


def show(dataset: Dataset, chosen: order.Choice) -> None:
    reviews = read_reviews(dataset)
    ranked = order.ranked(dataset, chosen)
    if not ranked:
        st.info(f"No case of {dataset.name} has a mask of this kind.", icon=":material/layers_clear:")
    case_view.show(dataset, chosen, ranked, reviews)
    readers.show(dataset, chosen.role, reviews)


main()
