"""The order of a review. What a user loses when it fails: hours spent on masks that were fine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from click.testing import CliRunner
from fakeruns import fake_run

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.reviews import add_review
from covseg_core.errors import SettingError
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.review_queue import queue, ranked
from covseg_core.evaluation.stored_predictions.doubtful_masks import doubtful_cases, doubts_of
from covseg_core.files import write_json
from covseg_core.runs import Run


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def scored(dataset: Dataset) -> list[Run]:
    runs = [fake_run(dataset, "e-dice", "dice", SplitConfig(fractions=(0.2, 0.4, 0.4)), 110)]
    evaluate_runs(runs)
    return runs


def names(found: list) -> list[str]:  # type: ignore[type-arg]
    return [one.case for one in found]


def test_the_largest_come_first_and_names_in_their_order(dataset: Dataset) -> None:
    sizes = {case.id: sum(case.voxels("infection") or ()) for case in dataset.cases}
    assert names(ranked(dataset, "infection", "size")) == sorted(sizes, key=lambda id: (-sizes[id], id))
    assert names(ranked(dataset, "infection")) == sorted(sizes)
    assert all(one.value is None for one in ranked(dataset, "infection"))


def test_what_models_doubt_comes_first_and_what_none_has_tested_last(dataset: Dataset, scored: list[Run]) -> None:
    found = ranked(dataset, "infection", "doubt", scored)
    doubts = doubtful_cases(doubts_of(scored))
    assert names(found)[: len(doubts)] == [doubt.case for doubt in doubts]
    assert [one.value for one in found][: len(doubts)] == [doubt.agreement for doubt in doubts]
    assert len(doubts) < len(found) == 5
    assert all(one.value is None for one in found[len(doubts) :])


def test_masks_on_which_their_models_agree_least_come_first(dataset: Dataset) -> None:
    agreements = (0.9, None, 0.4, 0.0, 1.0)
    cases = tuple(
        replace(case, revisions=(replace(case.history("infection", "")[0], origin="a + b", agreement=agreement),))
        for case, agreement in zip(dataset.cases, agreements, strict=True)
    )
    write_json(dataset.folder / "dataset.json", replace(dataset, cases=cases))
    found = ranked(load_dataset(dataset.name), "infection", "agreement")
    assert [one.value for one in found] == [0.0, 0.4, 0.9, 1.0, None], "0 is known, and None is not"


def test_what_was_seen_or_has_no_mask_does_not_wait(dataset: Dataset) -> None:
    add_review(dataset.name, "phantom_002", "accepted", "Ada")
    assert names(queue(dataset, "infection", "Ada")) == ["phantom_001", "phantom_003", "phantom_004", "phantom_005"]
    assert len(queue(dataset, "infection", "Bob")) == 5
    bare = replace(dataset, cases=(dataset.cases[0].with_mask("lung", None), *dataset.cases[1:]))
    assert dataset.cases[0].id not in names(queue(bare, "lung", "Bob"))


def test_the_commands(dataset: Dataset, scored: list[Run]) -> None:
    def run(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["review", *arguments], catch_exceptions=False, standalone_mode=True).stdout

    said = run("add", dataset.name, "phantom_001", "rejected", "--reader", "Ada", "--grade", "2", "--note", "shifted")
    assert said.strip() == "phantoms/phantom_001: infection mask of revision 1 rejected by Ada"
    run("add", dataset.name, "phantom_001", "rejected", "--reader", "Bob", "--grade", "1")
    assert "4 of 5 masks wait for a review." in run("list", dataset.name, "--reader", "Ada")
    rows = json.loads(run("list", dataset.name, "--order", "doubt", "--run", scored[0].id, "--json"))
    assert [row["case"] for row in rows] == names(ranked(dataset, "infection", "doubt", scored))
    assert {row["case"]: row["last_review"] for row in rows}["phantom_001"]["grade"] == 1
    assert "rejected by Bob, grade 1" in run("list", dataset.name)
    [pair] = json.loads(run("readers", dataset.name, "--json"))
    assert (pair["readers"], pair["same_decision"], pair["kappa"]) == (["Ada", "Bob"], 1.0, None)
    assert "Ada and Bob" in run("readers", dataset.name)
    assert "No two readers" in run("readers", dataset.name, "--role", "lung")


@pytest.mark.parametrize("arguments", [["--order", "doubt"], ["--run", "e-dice"]])
def test_an_order_by_doubt_needs_runs_and_no_other_does(arguments: list[str], dataset: Dataset) -> None:
    with pytest.raises(SettingError, match="--run"):
        CliRunner().invoke(
            cli, ["review", "list", dataset.name, *arguments], standalone_mode=False, catch_exceptions=False
        )
