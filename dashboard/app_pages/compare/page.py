"""Compare: the thesis's table, every model with every metric on the same test scans, and the slices themselves."""

import streamlit as st

from covseg_core.data.library.datasets import list_datasets
from covseg_core.evaluation import comparable, data_frames
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.figures import scans
from dashboard import navigation
from dashboard.app_pages.compare import (
    calibration,
    classical,
    conditions,
    doubtful_masks,
    downloads,
    empty_policy,
    expected_quality,
    failures,
    gain,
    leakage,
    other_sources,
    score_table,
    score_task,
    scores,
    seed_choice,
    slices,
    tabs,
    verdict,
    what_if,
)
from dashboard.formatting import plain
from dashboard.services import model_catalog, url_state

MODELS, DATASET = "compare-models", "compare-dataset"
NO_SLICES = "Predictions on another dataset are not kept, so there are no slices to look at."
SHIPPED_SLICES = (
    "Predictions of the models that come with covseg are not kept, so there are no slices to look at. Quick prediction "
    "shows what they say about a scan."
)
NOT_A_RANKING = (
    "These scores are of **different metrics**, so they do not rank the models: 0.99 pixel accuracy and 0.75 Dice can "
    "be the same prediction. The next table can: there every model has every metric."
)


def main() -> None:
    st.title("Compare")
    own, shipped = model_catalog.finished_models(), model_catalog.shipped_models()
    if not own and "runs" not in st.query_params:
        show_empty_state(shipped)
        return
    chosen = choose(own, shipped)
    if not chosen:
        st.info("Choose at least one model above.", icon=":material/compare:")
        return
    head = st.container(horizontal=True, gap="medium")
    with head:
        dataset = choose_dataset(chosen)
    comparison = score_task.comparison_of(chosen, dataset)
    if comparison is None:
        other_sources.show(chosen)
        return
    with head:
        comparison = empty_policy.choose(comparison)
        one, shown = (comparison, chosen) if dataset else seed_choice.choose(comparison, chosen)
    comparison = classical.joined(comparison)
    conditions.show(comparison)
    no_slices = NO_SLICES if dataset else SHIPPED_SLICES if any(map(model_catalog.is_shipped, chosen)) else ""
    boxes = dict(zip(tabs.NAMES, st.tabs(tabs.NAMES, key=tabs.KEY, bind="query-params"), strict=True))
    open_tab = next((name for name, box in boxes.items() if box.open), tabs.SUMMARY)
    with boxes[open_tab]:
        if open_tab == tabs.SUMMARY:
            show_own(comparison)
            verdict.show_sentences(comparison)
            if not no_slices:
                slices.show_one(one, shown)
            scores.show(comparison)
            classical.ask(comparison)
        elif open_tab == tabs.STATISTICS:
            verdict.show(comparison)
            show_chart(comparison)
            if not dataset:
                leakage.show(comparison, chosen)
            gain.show(chosen)
            expected_quality.show(chosen)
            other_sources.show(chosen)
        elif open_tab == tabs.EXPORT:
            downloads.show(comparison, one, shown)
        elif no_slices:
            st.info(no_slices, icon=":material/hide_image:")
        elif open_tab == tabs.SLICES:
            slices.show(one, shown)
        else:
            failures.show(one, shown)
            doubtful_masks.show(one, shown)
            what_if.show(one, shown)
            calibration.show(one, shown)


def show_empty_state(shipped: list[Model]) -> None:
    with st.container(border=True):
        st.markdown(
            "No training has finished yet. Train a U-Net with each of the three metrics, and they are compared here, "
            "on test scans that none of them has seen."
        )
        navigation.link(navigation.TRAIN)
        navigation.link(navigation.MONITOR, "Live curves of running trainings")
        if scored := [model.id for model in shipped if comparable.compared([model])[0]]:
            ids = {"runs": ",".join(scored)}
            navigation.link(navigation.COMPARE, "Compare the models that come with covseg", query_params=ids)


def choose(own: list[Model], shipped: list[Model]) -> list[Model]:
    """The models; the newest finished experiment unless the link says otherwise."""
    known = {model.id: model for model in [*own, *shipped]}
    folds = f". {comparable.FOLDS_ELSEWHERE}" if any(model.folds for model in own) else ""
    if MODELS not in st.session_state:
        newest = [model.id for model in model_catalog.newest(own)]
        st.session_state[MODELS] = url_state.read("runs", newest, known)
        if missing := url_state.gone("runs", known, "The newest experiment is shown instead."):
            st.warning(plain(missing), icon=":material/search_off:")
    st.session_state[MODELS] = [id for id in st.session_state[MODELS] if id in known]  # one may have been deleted
    chosen = st.multiselect(
        "Models",
        list(known),
        format_func=lambda id: model_catalog.label(known[id]),
        key=MODELS,
        help=f"Finished runs, the newest experiment first, then the models that come with covseg{folds}",
        wrap=True,
    )
    url_state.write(runs=chosen)
    return [known[id] for id in chosen]


def choose_dataset(chosen: list[Model]) -> str:
    """What the models are scored on, where there is a choice; empty for their own test part."""
    grounds = comparable.grounds(chosen, list_datasets())
    dataset = grounds[0]
    if len(grounds) > 1 or dataset:
        if st.session_state.get(DATASET) not in grounds:
            st.session_state[DATASET] = url_state.read("dataset", dataset, grounds)
        dataset = st.selectbox(
            "Scored on",
            grounds,
            format_func=lambda name: (
                f"All of {name}, less what any model has learned from" if name else "Their test part"
            ),
            key=DATASET,
            width=380 if dataset else 200,
            help=(
                "Runs of different splits share no test part. They are compared on the slices that none of them has "
                "learned from."
            ),
        )
    url_state.write(dataset=dataset or chosen[0].config.dataset)
    return dataset


def show_own(comparison: Comparison) -> None:
    st.subheader("Each model in its own metric")
    table = data_frames.own_scores(comparison)
    st.dataframe(
        table,
        hide_index=True,
        placeholder=score_table.UNDEFINED,
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            "Training [min]": st.column_config.NumberColumn(format="%.1f"),
            "Train + validation": st.column_config.NumberColumn(format="%.4f"),
            "Test": st.column_config.NumberColumn(format="%.4f"),
            "SD over seeds": st.column_config.NumberColumn(format="%.4f", help="Of the score on the test"),
        },
    )
    st.caption(NOT_A_RANKING)


def show_chart(comparison: Comparison) -> None:
    st.subheader("Dice of each test scan")
    st.plotly_chart(scans.figure(comparison), key="compare-chart", config={"displaylogo": False})
    if missing := scans.undefined(comparison):
        st.caption(
            f"No point where Dice is undefined because truth and prediction are both empty: {', '.join(missing)}."
        )


main()
