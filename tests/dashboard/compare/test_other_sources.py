"""Other sources on the Compare page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pages
import pytest
from fakeruns import fake_folds, fake_run
from streamlit.testing.v1 import AppTest

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import delete_dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.evaluation import comparable
from covseg_core.evaluation.cross_validation.evaluate import evaluate_folds
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.studies.source_shift import measure_shift, stored_shift
from covseg_core.runs import Run
from dashboard.app_pages.compare import other_sources


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVSEG_DATA", str(root))
        for name, seed in (("corona", 0), ("radio", 5)):
            folder = tmp_path_factory.mktemp(name)
            write_sample(folder, scans=4, size=32, slices=8, seed=seed)
            import_dataset(name, [folder], allow_empty=True)
    return root


@pytest.fixture
def run(imported: Path, data_folder: Path) -> Run:
    shutil.copytree(imported, data_folder)
    made = fake_run(load_dataset("corona"), "one", "dice", SplitConfig(fractions=(0.3, 0.2, 0.5)), 90)
    evaluate_runs([made])
    return made


def open_page(opened: bool = True, runs: str = "one") -> AppTest:
    return pages.open_page(
        "compare", {other_sources.OPEN: True} if opened else {}, runs=runs, dataset="corona", tab="Statistics"
    )


def matrix(app: AppTest) -> dict[tuple[str, str], str]:
    [table] = [frame.value for frame in app.dataframe if list(frame.value.columns[:2]) == ["Dataset", "Dice"]]
    return {(row["Dataset"], row["Dice"]): row["A · Dice"] for _, row in table.iterrows()}


def test_nothing_is_read_until_it_is_opened(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(other_sources, "stored_shift", never)
    assert "Other sources" in [box.label for box in open_page(opened=False).expander]


def test_a_click_scores_what_is_missing_and_it_is_there_from_then_on(run: Run) -> None:
    app = open_page()
    cells = matrix(app)
    assert {cells["radio", "per scan"], cells["radio", "pooled"]} == {"not scored"}
    assert cells["corona", "per scan"].endswith("· own"), "it stands in the tables above, too"
    next(button for button in app.button if button.label == "Score what is missing").click().run()
    task = pages.wait(app)
    assert task.state == "finished", task.error
    app = open_page()
    cells, found = matrix(app), stored_shift([run], ["radio"])
    assert cells["corona", "per scan"].endswith("· own")
    cell = found.cell("one", "radio")
    assert cell is not None and cell.dice is not None
    assert cells["radio", "per scan"].startswith(f"{cell.dice.mean:.3f} ± {cell.dice.std:.3f} (n {cell.dice.n})")
    assert cells["radio", "pooled"] == f"{cell.pooled_dice:.3f}"
    assert not [button for button in app.button if button.label == "Score what is missing"]
    assert any("Dice model: Dice" in text.value and "than on corona's test part" in text.value for text in app.markdown)
    assert any("No interval with fewer than 5 patients" in caption.value for caption in app.caption)


def test_nothing_is_offered_where_nothing_is_missing(run: Run) -> None:
    delete_dataset("radio")
    app = open_page()
    assert list(matrix(app)) == [("corona", "per scan"), ("corona", "pooled")]
    assert "not scored" not in matrix(app).values()
    assert not [button for button in app.button if button.label == "Score what is missing"]


def test_models_that_no_table_can_compare_are_shown_on_other_sources(run: Run) -> None:
    """Folds and a single run have no slices in common that none has learned from."""
    runs = fake_folds(load_dataset("corona"), {"dice": 90}, 3, experiment="folds")
    evaluate_folds(runs)
    measure_shift([run, *runs], ["radio"])
    app = open_page(runs="one,folds-dice")
    assert any(comparable.APART in info.value for info in app.info)
    [table] = [frame.value for frame in app.dataframe if list(frame.value.columns[:2]) == ["Dataset", "Dice"]]
    assert list(table.columns[2:]) == ["A · Dice", "B · Dice"]
    assert "not scored" not in table.to_numpy()
    assert "Other sources" in app.multiselect[0].help, "the way for folds to other data"


def test_folds_are_one_column(run: Run) -> None:
    runs = fake_folds(load_dataset("corona"), {"dice": 90}, 3, experiment="folds")
    evaluate_folds(runs)
    measure_shift(runs, ["radio"])
    app = open_page(runs="folds-dice")
    assert list(matrix(app)) == [(name, level) for name in ("corona", "radio") for level in ("per scan", "pooled")]
    assert "not scored" not in matrix(app).values()


def test_models_of_several_sources_are_told_apart(run: Run) -> None:
    other = fake_run(load_dataset("radio"), "two", "dice", SplitConfig(fractions=(0.3, 0.2, 0.5)), 90)
    names = other_sources.names_of([run, other])
    assert list(names.values()) == ["A · Dice · corona", "B · Dice · radio"]


def test_a_dataset_that_is_gone_does_not_hide_the_others(run: Run) -> None:
    delete_dataset("corona")
    assert list(matrix(open_page())) == [("radio", "per scan"), ("radio", "pooled")]
    delete_dataset("radio")
    assert any("no such dataset" in error.value for error in open_page().error)
