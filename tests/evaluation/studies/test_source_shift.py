"""Source shift. What a user loses otherwise: to know that a model is good at one hospital's scans only."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fakeruns import SIZE, fake_folds, fake_run, save_model

from covseg_core.cli import cli
from covseg_core.config import PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset, dataset_folder, delete_dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.reading.volumes import load_mask
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.slices import to_native
from covseg_core.errors import DatasetError, RunError
from covseg_core.evaluation import stored_scores
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evaluation.measures import Counts, count, overlap
from covseg_core.evaluation.studies import source_shift
from covseg_core.evaluation.studies.source_matrix import by_model
from covseg_core.evaluation.studies.source_shift import measure_shift, runs_by_model, stored_shift
from covseg_core.files import read_json, write_json
from covseg_core.runs import Run


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of other patients: `corona` and `radio`."""
    root = tmp_path_factory.mktemp("imported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVSEG_DATA", str(root))
        for name, seed in (("corona", 0), ("radio", 5)):
            folder = tmp_path_factory.mktemp(name)
            write_sample(folder, scans=4, size=32, slices=8, seed=seed)
            for case in sorted(folder.iterdir()):
                case.rename(case.with_name(f"{name}_{case.name[-3:]}"))
            import_dataset(name, [folder], allow_empty=True)
    return root


@pytest.fixture
def runs(imported: Path, data_folder: Path) -> list[Run]:
    """A model of each source."""
    shutil.copytree(imported, data_folder)
    split = SplitConfig(fractions=(0.3, 0.2, 0.5))
    return [fake_run(load_dataset(name), f"of-{name}", "dice", split, 90) for name in ("corona", "radio")]


def by_hand(dataset: Dataset, ids: list[str], limit: float) -> list[Counts]:
    found = []
    for id in ids:
        case, prepare = dataset.case(id), PrepareConfig(size=SIZE)
        grey = (prepared(dataset, case, prepare, "images") > limit).astype(np.float32)
        truth = load_mask(dataset.path(case, "infection")).voxels > 0
        found.append(count(truth, to_native(grey, case_grid(dataset, case, prepare)) >= 0.5))
    return found


def test_every_model_is_on_its_own_test_part_and_on_all_of_the_others(runs: list[Run]) -> None:
    seen: list[tuple[int, int]] = []
    found = measure_shift(runs, progress=lambda done, total: seen.append((done, total)))
    assert found.datasets == ("corona", "radio")
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    for run in runs:
        for name in found.datasets:
            cell, dataset = found.cell(run.id, name), load_dataset(name)
            own = run.config.dataset == name
            ids = sorted(run.split.test) if own else sorted(case.id for case in dataset.cases)
            counts = by_hand(dataset, ids, 90)
            dice = [value for one in counts if not np.isnan(value := overlap(one)["dice"])]
            assert cell is not None and cell.dice is not None
            assert (cell.part, cell.leaky) == ("test" if own else "all", False)
            assert (cell.slices, cell.patients) == (8 * len(ids), len(ids))
            assert cell.dice.mean == pytest.approx(np.mean(dice))
            assert cell.dice.std == pytest.approx(np.std(dice, ddof=1))
            assert cell.dice.n == len(dice)
            assert cell.pooled_dice == pytest.approx(overlap(sum(counts, Counts()))["dice"])


def test_patients_that_were_learned_from_are_marked(runs: list[Run]) -> None:
    """The copy of a dataset under another name is no other source."""
    corona = load_dataset("corona")
    shutil.copytree(corona.folder, dataset_folder("copy"))
    write_json(dataset_folder("copy") / "dataset.json", dataclasses.replace(corona, name="copy"))
    found = measure_shift(runs, ["copy"])
    first, second = (found.cell(run.id, "copy") for run in runs)
    assert first is not None and first.leaky and first.part == "all"
    assert second is not None and not second.leaky
    own = found.cell("of-corona", "corona")
    assert own is not None and own.part == "test" and not own.leaky


def test_folds_are_one_model(runs: list[Run]) -> None:
    """On its own data everybody once, elsewhere the mean of what the folds find."""
    folds = fake_folds(load_dataset("corona"), {"dice": 80}, 3, experiment="folds")
    models = runs_by_model([*folds, runs[1]])
    assert {name: len(several) for name, several in models.items()} == {"of-radio": 1, "folds-dice": 3}
    found = by_model(measure_shift([*folds, runs[1]]), models)
    own, other = (found.cell("folds-dice", name) for name in ("corona", "radio"))
    assert own is not None and own.dice is not None and other is not None and other.dice is not None
    counts: dict[str, Counts] = {}
    everywhere: dict[str, list[float]] = {}
    for fold in folds:
        limit = 80 + 5 * fold.config.split.fold
        tested = sorted(fold.split.test)
        counts |= dict(zip(tested, by_hand(load_dataset("corona"), tested, limit), strict=True))
        ids = [case.id for case in load_dataset("radio").cases]
        for id, one in zip(ids, by_hand(load_dataset("radio"), ids, limit), strict=True):
            everywhere.setdefault(id, []).append(overlap(one)["dice"])
    assert (own.patients, other.patients) == (4, 4)
    assert own.pooled_dice == pytest.approx(overlap(sum(counts.values(), Counts()))["dice"])
    assert own.dice.mean == pytest.approx(np.nanmean([overlap(one)["dice"] for one in counts.values()]))
    assert other.dice.mean == pytest.approx(np.nanmean([np.mean(values) for values in everywhere.values()]))
    assert found.cell("of-radio", "corona") is not None
    assert runs_by_model(folds[:1]) == {folds[0].id: [folds[0]]}


def test_patients_that_may_have_been_learned_from_are_pointed_out(runs: list[Run]) -> None:
    """Without its own dataset, nobody can know whether a model has seen the same person."""
    corona = load_dataset("corona")
    shutil.copytree(corona.folder, dataset_folder("copy"))
    write_json(dataset_folder("copy") / "dataset.json", dataclasses.replace(corona, name="copy"))
    delete_dataset("corona")
    found = measure_shift(runs[:1], ["copy"])
    [cell] = found.cells
    assert cell.marks == ["LEAKY?"]
    assert "of-corona has learned from patients of the same name" in found.doubts[0]


def test_slices_of_a_stack_count_as_scans(runs: list[Run]) -> None:
    """One file of a hundred patients is not a single observation."""
    radio = load_dataset("radio")
    cases = tuple(dataclasses.replace(case, stacked=True) for case in radio.cases)
    shutil.copytree(radio.folder, dataset_folder("stack"))
    write_json(dataset_folder("stack") / "dataset.json", dataclasses.replace(radio, name="stack", cases=cases))
    cell = measure_shift(runs[:1], ["stack"]).cell("of-corona", "stack")
    scores = evaluate_run(runs[0], "stack").model
    assert cell is not None and cell.dice is not None
    assert cell.patients == 32
    assert cell.dice.n == scores.over_slices["dice"].n > 4
    assert cell.dice.mean == pytest.approx(scores.over_slices["dice"].mean)


def test_what_was_scored_is_there_at_once_until_model_or_data_change(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stored_shift(runs).cells == ()
    found = measure_shift(runs)
    assert stored_shift(runs) == found

    def again(*args: object) -> None:
        raise AssertionError("it is known")

    with monkeypatch.context() as patch:
        patch.setattr(source_shift, "evaluate_runs", again)
        assert measure_shift(runs) == found
    save_model(runs[0].onnx, 120)
    assert {cell.run for cell in stored_shift(runs).cells} == {"of-radio"}
    radio = load_dataset("radio")
    write_json(radio.folder / "dataset.json", dataclasses.replace(radio, cases=radio.cases[:-1]))
    assert {(cell.run, cell.dataset) for cell in stored_shift(runs).cells} == {("of-radio", "corona")}


def test_own_scores_of_before_are_there_at_once(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for scores, or is asked to, that stand in the table above; and looking at them writes nothing."""
    evaluation = evaluate_run(runs[0])
    before = {path: path.stat().st_mtime_ns for path in runs[0].folder.rglob("*")}

    def again(*args: object) -> None:
        raise AssertionError("it is known")

    monkeypatch.setattr(source_shift, "evaluate_runs", again)
    [cell] = stored_shift(runs[:1]).cells
    assert (cell.run, cell.dataset, cell.part) == ("of-corona", "corona", "test")
    assert cell.pooled_dice == evaluation.model.pooled["dice"]
    assert cell.dice == evaluation.model.over_scans["dice"]
    assert measure_shift(runs[:1]).cells == (cell,)
    assert {path: path.stat().st_mtime_ns for path in runs[0].folder.rglob("*")} == before


def test_own_scores_are_read_once(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The page asks on every rerun, and fifteen evaluations take a while to read."""
    evaluate_run(runs[0])
    read: list[Path] = []

    def count_reads(path: Path, kind: type) -> object:
        read.append(path)
        return read_json(path, kind)

    monkeypatch.setattr(stored_scores, "read_json", count_reads)
    assert stored_shift(runs[:1]) == stored_shift(runs[:1])
    assert read == [runs[0].evaluation]
    evaluate_run(runs[0])
    assert len(stored_shift(runs[:1]).cells) == 1
    save_model(runs[0].onnx, 120)
    assert stored_shift(runs[:1]).cells == (), "of an earlier model"
    assert len(read) == 2, "once more since it is new, and not for the model"


def test_own_scores_do_not_depend_on_the_policy_they_were_made_with(runs: list[Run]) -> None:
    """Or a model with many empty slices would seem better at home than elsewhere."""
    evaluate_run(runs[0])
    plain = stored_shift(runs[:1]).cells
    evaluate_run(runs[0], policy="one")
    assert stored_shift(runs[:1]).cells == plain != ()


def test_scores_move_with_the_folder(runs: list[Run]) -> None:
    measure_shift(runs[:1], ["radio"])
    renamed = Run(runs[0].folder.rename(runs[0].folder.with_name("renamed")))
    found = stored_shift([renamed], ["radio"])
    assert [cell.part for cell in found.cells] == ["test", "all"]
    assert found.cell("renamed", "radio") is not None


def test_a_model_whose_own_data_are_not_here_can_be_scored_on_others(runs: list[Run]) -> None:
    """A shipped one, for instance."""
    delete_dataset("corona")
    found = measure_shift(runs[:1], ["radio"])
    assert found.datasets == ("radio",)
    assert [cell.part for cell in found.cells] == ["all"]
    with pytest.raises(DatasetError, match="no such dataset"):
        measure_shift(runs[:1])


def test_what_the_user_can_mend_is_said(runs: list[Run]) -> None:
    with pytest.raises(DatasetError, match="no such dataset"):
        measure_shift(runs, ["nowhere"])
    lung = fake_run(load_dataset("corona"), "lungs", "dice", SplitConfig(), 90, target="lung")
    with pytest.raises(RunError, match=r"different targets \(infection and lung\)"):
        measure_shift([runs[0], lung])
    with pytest.raises(RunError, match="no runs"):
        measure_shift([])


def test_the_command_line_prints_the_matrix(runs: list[Run]) -> None:
    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["shift", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    text = invoke("of-corona", "--dataset", "radio")
    assert "(n 4)" in text and " own" in text and "A: of-corona" in text
    assert "on radio than on corona's test part, n = 4 and 2 patients." in text
    assert "No interval with fewer than 5 patients on either side" in text
    found = json.loads(invoke("of-corona", "of-radio", "--json"))
    assert [(cell["dataset"], cell["run"]) for cell in found["cells"]] == [
        (name, run) for name in ("corona", "radio") for run in ("of-corona", "of-radio")
    ]
    assert [(drop["model"], drop["own"], drop["dataset"]) for drop in found["drops"]] == [
        ("of-corona", "corona", "radio"),
        ("of-radio", "radio", "corona"),
    ]
    means = {(cell["run"], cell["dataset"]): cell["dice"]["mean"] for cell in found["cells"]}
    difference = means["of-corona", "radio"] - means["of-corona", "corona"]
    assert found["drops"][0]["difference"] == {"value": pytest.approx(difference), "low": None, "high": None}
    assert "Dice model A: Dice" in found["drops"][0]["sentence"]


def test_a_source_of_a_folder_can_be_imported_by_itself(tmp_path: Path) -> None:
    """`covseg data add corona ct20/coronacases_*`."""
    write_sample(tmp_path / "ct", scans=4, size=32, slices=8)
    for number, case in enumerate(sorted((tmp_path / "ct").iterdir())):
        case.rename(case.with_name(f"{'coronacases' if number < 3 else 'radiopaedia'}_{number}"))
    paths = [str(path) for path in sorted((tmp_path / "ct").glob("coronacases_*"))]
    done = CliRunner().invoke(cli, ["data", "add", "corona", *paths, "--allow-empty"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [case.id for case in load_dataset("corona").cases] == [
        "coronacases_000",
        "coronacases_001",
        "coronacases_002",
    ]
