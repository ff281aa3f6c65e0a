"""Settings of a training, what they will come to, and the button that starts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

import streamlit as st

from covseg_core.config import (
    AUGMENTATIONS,
    METRICS,
    MOST_SEEDS,
    PRESETS,
    THESIS,
    Metric,
    Preset,
    Region,
    Schedule,
    SplitConfig,
    SplitKind,
    Target,
)
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.splitting.split import Split, SplitReport, make_splits, split_report
from covseg_core.errors import CovsegError
from covseg_core.runs import jobs, open_run
from covseg_core.runs import time_estimate as core
from covseg_core.runs.preset_changes import PresetChanges, augmentation_name
from covseg_core.runs.starting_point import starting_point
from covseg_core.runs.time_estimate import Network
from dashboard import navigation
from dashboard.app_pages.train import first_weights, place, reviewed_masks, time_estimate

_METRICS: dict[str, tuple[Metric, ...]] = {
    "All three": THESIS,
    **{METRICS[metric].label: (metric,) for metric in METRICS},
}
_SPLITS: dict[SplitKind, str] = {"patient": "By patient", "slice": "By slice (leaks)"}
_REGIONS: dict[Region, str] = {"slice": "All of it", "lungs": "Lungs only"}
_SCHEDULES: dict[Schedule, str] = {"constant": "Never", "cosine": "To the end", "plateau": "On a plateau"}
_SIZE, _FILTERS = "Side of the slices (pixels)", "Filters of the first block"
_BATCH, _CONTEXT = "Slices a batch", "Neighbouring slices on each side"
_PATIENCE = "Patience (epochs)"
_OF_THE_NETWORK = {_SIZE, _FILTERS, _CONTEXT}
"""What is the run's that a training starts from."""
KEPT: Literal["session"] = "session"
"""What is entered stays while somebody is on other pages: Streamlit forgets the state of widgets that are not drawn."""
SPLIT, FOLDS = 430, 700
"""Widths of the tables of a split and of folds, beside which device and time stand where there is room [px]."""
_PARTS = {"train": "Training", "validation": "Validation", "test": "Test"}


@dataclass(frozen=True)
class TrainingChoice:
    """What is passed to `jobs.train`."""

    metrics: tuple[Metric, ...]
    preset: str
    split: SplitKind
    target: Target
    changes: PresetChanges
    seed: int
    folds: int
    """0 or 1 for a single split."""
    seeds: int
    """1 for one training of each metric."""
    start_from: str | None = None
    """The run whose best weights they start from; None for new weights."""
    leave_out: tuple[str, ...] = ()
    """Cases that are in no part."""

    @property
    def base(self) -> Preset:
        """The preset, with the network of the run that they start from."""
        base = PRESETS[self.preset]
        return starting_point(self.start_from).preset(base) if self.start_from else base

    @property
    def splits(self) -> SplitConfig:
        """Of the first fold, if there are several."""
        folds = self.folds if self.folds > 1 else 0
        return SplitConfig(self.split, seed=self.seed, folds=folds, fold=min(folds, 1), leave_out=self.leave_out)

    @property
    def network(self) -> Network:
        """Raises `SettingError`."""
        train = self.changes.train(self.base, self.metrics[0])
        return Network(self.changes.prepare(self.base), self.changes.model(self.base), train)

    def dealt(self, dataset: Dataset) -> list[Split]:
        """Who trains, validates and tests; raises `CovsegError`."""
        if self.start_from:
            return [starting_point(self.start_from).split(dataset, self.splits)]
        return make_splits(dataset, self.splits, self.target)

    @property
    def all_epochs(self) -> list[int]:
        """Of each run."""
        each = [self.changes.epochs or PRESETS[self.preset].epochs[metric] for metric in self.metrics]
        return each * max(1, self.folds) * self.seeds


def fill(choice: TrainingChoice) -> None:
    """Have the widgets show this choice; before they are made."""
    changes, base = choice.changes, PRESETS[choice.preset]
    values = {
        "metric": next(name for name, metrics in _METRICS.items() if metrics == choice.metrics),
        "preset": choice.preset,
        "split": choice.split,
        "epochs": changes.epochs,
        "target": choice.target,
        _SIZE: changes.size,
        _FILTERS: changes.filters,
        _BATCH: changes.batch,
        f"region-{choice.preset}": changes.region or base.prepare.region,
        _CONTEXT: changes.context,
        "rate": changes.learning_rate,
        f"schedule-{choice.preset}": changes.schedule or base.train.schedule,
        _PATIENCE: changes.patience,
        f"augmentation-{choice.preset}": changes.augmentation or augmentation_name(base.train.augment),
        "ema": changes.ema,
        "seed": choice.seed,
        "folds": choice.folds,
        "seeds": choice.seeds,
    }
    for name, value in values.items():
        st.session_state[f"train-{name}"] = value
    st.session_state[first_weights.KEY] = choice.start_from or ""


def show(dataset: Dataset) -> None:
    """The whole form."""
    st.subheader("Training")
    targets = [target for target in get_args(Target) if any(target in case.files for case in dataset.cases)]
    if not targets:
        st.info("This dataset has no masks to learn from. Add cases with infection or lung masks.")
        return
    settings = choose(targets)
    try:
        settings = replace(settings, leave_out=reviewed_masks.choose(dataset, settings.target))
        network = settings.network
        splits = settings.dealt(dataset)
        reports = [split_report(split, dataset, settings.target) for split in splits]
        slices = core.epoch_slices(splits[0], dataset, network.train.empty_share, settings.target)
        network = replace(network, slices=slices)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    row = st.container(horizontal=True, gap="large")
    with row.container(width=SPLIT if len(reports) == 1 else FOLDS):
        show_split(reports[0], settings.target) if len(reports) == 1 else show_folds(reports, settings)
    with row.container():
        time_estimate.show(network, splits[0], dataset, settings.all_epochs, settings.target)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        where = place.choose()
        pressed = st.button("Start training", type="primary", icon=":material/play_arrow:")
        words = "Training runs in a process of its own: closing this page or the dashboard does not end it."
        st.caption(words, width="stretch")
    if pressed:
        start(dataset, settings, where)


def choose(targets: list[Target]) -> TrainingChoice:
    """Widgets; those that few need are folded away, and all stay as they are for the session.

    Their first values are put into the session, where `fill` may have put others.
    """

    def first(name: str, value: Any, options: Sequence[Any] = ()) -> str:
        """Key of a widget that begins with this value."""
        key = f"train-{name}"
        if key not in st.session_state or (options and st.session_state[key] not in options):
            st.session_state[key] = value
        return key

    with st.container(horizontal=True, vertical_alignment="bottom"):
        metrics = st.segmented_control(
            "Metric",
            list(_METRICS),
            key=first("metric", "All three"),
            persist_state=KEPT,
            required=True,
            help="What a U-Net is compiled with. All three: one training each, on the same split, to be compared.",
        )
        preset = st.segmented_control(
            "Preset",
            list(PRESETS),
            key=first("preset", "quick"),
            persist_state=KEPT,
            required=True,
            format_func=str.capitalize,
        )
        split = st.segmented_control(
            "Split",
            list(_SPLITS),
            key=first("split", "patient"),
            persist_state=KEPT,
            required=True,
            format_func=_SPLITS.__getitem__,
            help=(
                "By patient, all slices of a person are on one side. By slice, as in the thesis, neighbouring slices "
                "of a person are on both sides, which makes scores too high."
            ),
        )
        # required, so never None
        metrics, preset, split = cast(str, metrics), cast(str, preset), cast(SplitKind, split)
        start_from = first_weights.choose(targets)
        base = starting_point(start_from).preset(PRESETS[preset]) if start_from else PRESETS[preset]
        usual = " / ".join(str(count) for count in dict.fromkeys(base.epochs[metric] for metric in _METRICS[metrics]))
        epochs = st.number_input(
            "Epochs", 1, 100_000, None, placeholder=usual, key="train-epochs", persist_state=KEPT, width=170
        )
        st.caption(base.description, width="stretch")
    with st.expander("More settings", icon=":material/tune:"), st.container(horizontal=True):
        targets = targets if start_from is None else [open_run(start_from).config.target]
        target = st.segmented_control(
            "Learn to outline",
            targets,
            key=first("target", targets[0], targets),
            persist_state=KEPT,
            required=True,
            format_func=str.capitalize,
        )
        target = cast(Target, target)

        def number(label: str, low: int, high: int, usual: int, step: int = 1, help: str | None = None) -> int | None:
            """Empty stands for the preset's value, which it shows."""
            key = f"train-{label}"
            return st.number_input(
                label,
                low,
                high,
                None,
                step,
                placeholder=str(usual),
                key=key,
                persist_state=KEPT,
                width=210,
                help=help,
                disabled=start_from is not None and label in _OF_THE_NETWORK,
            )

        def decimal(name: str, label: str, high: float, usual: float, help: str) -> float | None:
            """From 0; empty as of `number`."""
            return st.number_input(
                label,
                0.0,
                high,
                None,
                placeholder=f"{usual:g}",
                format="%g",
                key=f"train-{name}",
                persist_state=KEPT,
                width=210,
                help=help,
            )

        size = number(_SIZE, 16, 1024, base.prepare.size, 16)
        filters = number(_FILTERS, 1, 256, base.model.filters)
        help = "A GPU takes up to four times the preset's, with a higher learning rate. What you enter here is kept."
        batch = number(_BATCH, 1, 4096, base.train.batch, help=help)
        region = st.segmented_control(
            "Part of a slice",
            list(_REGIONS),
            key=first(f"region-{preset}", base.prepare.region),
            persist_state=KEPT,
            required=True,
            format_func=_REGIONS.__getitem__,
            disabled=start_from is not None,
            help=(
                "Lungs only: slices are cut to the box of the lungs, which the network then sees larger, and nothing "
                "outside of the lungs is marked. For the infection."
            ),
        )
        context = number(_CONTEXT, 0, 5, base.prepare.context)
        help = "Of Adam, at the start. What you enter here is kept on a GPU, and the batch with it."
        rate = decimal("rate", "Learning rate", 1.0, base.train.learning_rate, help)
        schedule = st.segmented_control(
            "Learning rate falls",
            list(_SCHEDULES),
            key=first(f"schedule-{preset}", base.train.schedule),
            persist_state=KEPT,
            required=True,
            format_func=_SCHEDULES.__getitem__,
            help="To the end: to 1 % at the last epoch, along a cosine. On a plateau: halved after 5 epochs without a "
            "better validation score.",
        )
        help = "Stop after so many epochs without a better validation score; 0: never."
        patience = number(_PATIENCE, 0, 100_000, base.train.patience, help=help)
        augmentation = st.segmented_control(
            "Random changes to slices",
            list(AUGMENTATIONS),
            key=first(f"augmentation-{preset}", augmentation_name(base.train.augment)),
            persist_state=KEPT,
            required=True,
            format_func=str.capitalize,
            help="Light: mirror, shift, scale, grey values. Full: also rotation and noise. Strong: all of it further, "
            "and blur, for scans from elsewhere. Never to validation and test.",
        )
        help = "Share of the past in a moving average, such as 0.99; the average is what is kept. 0: no average."
        ema = decimal("ema", "Average of the weights", 0.9999, base.train.ema, help)
        help = "Of the split, the initial weights and the order of the slices"
        seed = st.number_input("Seed", 0, 2**31 - 1, help=help, key=first("seed", 0), persist_state=KEPT, width=170)
        help = "Cross-validation: so many trainings for each metric; every patient is tested once. 1: a single split."
        folds = st.number_input("Folds", 0, 100, help=help, key=first("folds", 1), persist_state=KEPT, width=170)
        help = (
            "Trainings of each metric on the same split, each with a seed of its own: how far models differ by chance. "
            "Costs so many times as much."
        )
        seeds = st.number_input("Seeds", 1, MOST_SEEDS, help=help, key=first("seeds", 1), persist_state=KEPT, width=170)
    if start_from is not None:
        size = filters = region = context = None  # the run's own
    usual_augmentation = augmentation_name(base.train.augment)
    changes = PresetChanges(
        epochs=epochs,
        size=size,
        filters=filters,
        batch=batch,
        region=region,
        context=context,
        learning_rate=rate,
        schedule=schedule,
        patience=patience,
        augmentation=None if augmentation == usual_augmentation else augmentation,
        ema=ema,
    )
    folds = folds if start_from is None else 1
    return TrainingChoice(_METRICS[metrics], preset, split, target, changes, seed, folds, seeds, start_from)


def show_split(report: SplitReport, target: Target) -> None:
    st.markdown("**Split**")
    st.dataframe(
        [
            {
                "Part": _PARTS[part.part],
                "Patients": part.patients,
                "Scans": part.scans,
                "Slices": part.slices,
                "Share (%)": round(100 * part.share),
                f"With {target}": part.positive,
            }
            for part in report.parts
        ],
        hide_index=True,
        width="content",
        column_config={"Share (%)": st.column_config.NumberColumn(help="Of all slices")},
    )
    if report.leaky:
        st.warning(
            f"{len(report.shared_patients)} patients are on more than one side: scores will be too high. "
            "Tables mark such runs as leaky.",
            icon=":material/warning:",
        )
    for part in report.parts:
        if not part.positive:
            st.warning(
                f"{_PARTS[part.part]} has no slice with {target}: it cannot be scored. Try another seed, or add cases.",
                icon=":material/warning:",
            )


def show_folds(reports: list[SplitReport], settings: TrainingChoice) -> None:
    """A row a fold: how many of whom it trains, validates and tests."""
    st.markdown(f"**Split into {len(reports)} folds**")
    unit = {"patient": "patients", "slice": "slices"}[settings.split]
    rows = []
    for number, report in enumerate(reports, start=1):
        sides = {
            f"{_PARTS[part.part]} {unit}": part.patients if settings.split == "patient" else part.slices
            for part in report.parts
        }
        test = report.parts[2]
        slices = {"Test slices": test.slices, f"Test with {settings.target}": test.positive}
        rows.append({"Fold": number, **sides, **slices})
    st.dataframe(rows, hide_index=True, width="content")
    st.caption(f"Every {settings.split} is tested in one fold. Compare shows the folds of a metric as one model.")
    if reports[0].leaky:
        text = "Patients are on more than one side: scores will be too high. Tables mark such runs as leaky."
        st.warning(text, icon=":material/warning:")


def start(dataset: Dataset, settings: TrainingChoice, where: str) -> None:
    """Put the runs in the queue and go where they can be watched."""
    try:
        runs = jobs.train(
            dataset.name,
            settings.metrics,
            settings.preset,
            settings.split,
            settings.target,
            **asdict(settings.changes),
            seed=settings.seed,
            folds=settings.folds,
            leave_out=settings.leave_out,
            seeds=settings.seeds,
            start_from=settings.start_from,
            place=where,
        )
    except (CovsegError, OSError) as error:
        st.error(str(error), icon=":material/error:")
        return
    navigation.go(navigation.MONITOR, runs=",".join(run.id for run in runs))
