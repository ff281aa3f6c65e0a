"""Train again with other settings: a link with `again=RUN` fills the form with what that run was trained with."""

from __future__ import annotations

import dataclasses

import streamlit as st

from covseg_core.config import PRESETS, RunConfig
from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.errors import CovsegError
from covseg_core.runs import open_run
from covseg_core.runs.preset_changes import changes_of
from covseg_core.runs.setting_values import differing, label
from covseg_core.runs.starting_point import starting_point
from dashboard.app_pages.train import first_weights, settings_form
from dashboard.app_pages.train.settings_form import TrainingChoice
from dashboard.components.news import NEWS, TROUBLE
from dashboard.formatting import plain

ADDRESS = "again"


def fill() -> None:
    """Once for each link, before the widgets are made; says what the form cannot hold."""
    id = st.query_params.pop(ADDRESS, "")
    if not id:
        return
    try:
        config = open_run(id).config
    except CovsegError as error:
        st.session_state[TROUBLE] = str(error)
        return
    choice = choice_of(config)
    settings_form.fill(choice)
    told = [f"The form holds the settings of {plain(id)}."]
    if config.dataset in list_datasets():
        st.session_state.dataset = config.dataset
        if load_dataset(config.dataset).fingerprint != config.fingerprint:
            told.append(f"{plain(config.dataset)} has changed since: what is trained on is its newest revision.")
    else:
        told.append(f"Its dataset {plain(config.dataset)} is not here any more.")
    if config.parent and choice.start_from is None:
        told.append(
            f"The run that it started from, {plain(config.parent)}, is not here any more: weights are new ones."
        )
    if lost := not_held(config, choice):
        told.append(f"What cannot be chosen here is as in the preset: {plain(', '.join(lost))}.")
    st.session_state[NEWS] = " ".join(told)


def choice_of(config: RunConfig) -> TrainingChoice:
    """What to choose so that the same is trained, as far as the form goes; None where it is the preset's."""
    preset = config.preset if config.preset in PRESETS else next(iter(PRESETS))
    train = config.train
    start_from = config.parent if first_weights.available(config.parent) else None
    base = starting_point(start_from).preset(PRESETS[preset]) if start_from else PRESETS[preset]
    return TrainingChoice(
        metrics=(config.metric,),
        preset=preset,
        split=config.split.kind,
        target=config.target,
        changes=changes_of(config, base),
        # of several seeds each has one of its own, which follows from that of the split
        seed=config.split.seed if train.seeds else train.seed,
        folds=config.split.folds or 1,
        seeds=train.seeds or 1,
        start_from=start_from,
    )


def not_held(config: RunConfig, choice: TrainingChoice) -> list[str]:
    """Labels of the settings that would not be the run's: the preset was another one then, or a script has set them."""
    base = choice.base
    train = config.train
    again = dataclasses.replace(
        config,
        preset=choice.preset,
        prepare=choice.changes.prepare(base),
        model=choice.changes.model(base),
        train=choice.changes.train(
            base, config.metric, seed=train.seed, seeds=train.seeds, seed_number=train.seed_number
        ),
        # that of a run to start from is the run's, whatever the form says
        split=config.split if choice.start_from else dataclasses.replace(choice.splits, fold=config.split.fold),
    )
    return [label(name) for name in differing([config, again])]
