"""The Compare page in its states, without a browser, on models whose answers are known."""

from __future__ import annotations

import dataclasses
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pages
import pandas as pd
import pytest
from fakeruns import SIZE, epoch_row, save_model
from streamlit.testing.v1 import AppTest

from covseg_core.config import Metric, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset, dataset_folder, delete_dataset
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.slices import to_native
from covseg_core.data.splitting.split import make_split
from covseg_core.errors import Cancelled
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.model import single_runs
from covseg_core.evaluation.stored_predictions import slice_ranking
from covseg_core.evidence.verify import verify_bundle
from covseg_core.files import write_json
from covseg_core.runs import Run, create_run
from dashboard.app_pages.compare import export_files, score_table, tabs
from dashboard.services import corrections

LIMITS: dict[Metric, float] = {"accuracy": 90, "iou": 90, "dice": 130}
"""Grey values above which the models see infection: the first two are one model."""


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def make(dataset: Dataset) -> Callable[..., Run]:
    def run(metric: Metric, experiment: str = "first", **split: object) -> Run:
        config = RunConfig(
            id=f"{experiment}-{metric}",
            experiment=experiment,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            metric=metric,
            preset="quick",
            created="2026-01-02T03:04:05.000006+00:00",
            prepare=PrepareConfig(size=SIZE),
            split=SplitConfig(**({"fractions": (0.4, 0.2, 0.4)} | split)),  # type: ignore[arg-type]
        )
        made = create_run(config, make_split(dataset, config.split, config.target))
        save_model(made.onnx, LIMITS[metric])
        made.write_history([epoch_row(1), epoch_row(2)])
        made.write_status(dataclasses.replace(made.status, state="finished", epoch=2, epochs=2))
        return made

    return run


@pytest.fixture
def three(make: Callable[..., Run]) -> list[Run]:
    """A finished experiment, scored."""
    runs = [make(metric) for metric in LIMITS]
    evaluate_runs(runs)
    return runs


def test_a_models_mask_is_opened_to_be_corrected(three: list[Run], dataset: Dataset) -> None:
    """Where the model is right and the truth is not, nobody wants to draw it again."""
    app = pages.open_page("compare", tab="Slices")
    case = next(box.value for box in app.selectbox if box.label == "Test scan")
    pages.well(next(box for box in app.selectbox if box.label == "Model").set_value(2).run())
    [link] = [link.proto for link in app.get("page_link") if link.proto.label == "Correct from this model's mask"]
    assert link.query_string == f"dataset=phantoms&case={case}&correct={three[2].id}"
    app = pages.open_page("review", dataset="phantoms", case=case, correct=three[2].id)
    work = app.session_state[corrections.KEY]["phantoms", case]
    assert (work.origin, work.role, work.parent) == (three[2].id, "infection", 1)
    prepare = three[2].config.prepare
    bright = (prepared(dataset, dataset.case(case), prepare, "images") > LIMITS["dice"]).astype(np.float32)
    expected = to_native(bright, case_grid(dataset, dataset.case(case), prepare)) >= 0.5
    assert np.array_equal(work.start.mask(), expected)
    assert "Stop correcting" in [button.label for button in app.button]
    assert "correct" not in app.query_params, "a reload would begin anew"


@pytest.mark.parametrize(("model", "case"), [("nobody", "phantom_001"), ("first-dice", "nobody")])
def test_a_link_to_a_mask_that_is_not_there_is_a_line(three: list[Run], model: str, case: str) -> None:
    app = pages.open_page("review", dataset="phantoms", case=case, correct=model)
    assert "nobody" in app.error[0].value


def test_shipped_models_can_be_compared_with_own_ones(three: list[Run], tmp_path: Path, monkeypatch) -> None:
    """On scans that no model has learned from: their own test scans are not on this computer."""
    shipped = tmp_path / "shipped"
    shutil.copytree(three[2].folder, shipped / "infection-dice")
    config = dataclasses.replace(three[2].config, id="infection-dice", experiment="shipped", dataset="chest")
    write_json(shipped / "infection-dice" / "config.json", config)
    monkeypatch.setenv("COVSEG_PRETRAINED", str(shipped))
    app = pages.open_page("compare", runs=f"{three[0].id},infection-dice")
    [models] = app.multiselect
    assert models.value == [three[0].id, "infection-dice"]
    assert "infection-dice · comes with covseg" in models.options
    assert [box.value for box in app.selectbox if box.label == "Scored on"] == ["phantoms"]
    next(button for button in app.button if button.label.startswith("Score these models")).click().run()
    assert pages.wait(app).state == "finished"
    app.run()
    assert "infection-dice" in str(app.dataframe[0].value)


def test_shipped_models_alone_show_their_stored_scores_and_no_slices(
    three: list[Run], tmp_path: Path, monkeypatch
) -> None:
    """Nothing was trained yet; their predictions do not come with them."""
    shipped = tmp_path / "shipped"
    for run in three:
        shutil.move(run.folder, shipped / run.id)
        (shipped / run.id / "test_predictions.npy").unlink()
    monkeypatch.setenv("COVSEG_PRETRAINED", str(shipped))
    links = [element.proto.label for element in open_page().get("page_link")]
    assert "Compare the models that come with covseg" in links
    for tab in tabs.NAMES:
        app = pages.open_page("compare", {"tab": tab}, runs=",".join(run.id for run in three))
        assert not app.error, tab
        shown = [info.value for info in app.info]
        assert any("no slices to look at" in text for text in shown) == (tab in (tabs.SLICES, tabs.FAILURES)), tab
        if tab == tabs.SUMMARY:
            assert [heading.value for heading in app.subheader] == SECTIONS


def by_hand(dataset: Dataset, case_id: str, limit: float) -> np.ndarray:
    """The mask of a whole scan, (Z, Y, X) bool, the slow and obvious way."""
    case, prepare = dataset.case(case_id), PrepareConfig(size=SIZE)
    probabilities = (prepared(dataset, case, prepare, "images") > limit).astype(np.float32)
    return to_native(probabilities, case_grid(dataset, case, prepare)) >= 0.5


def open_page(**query: str) -> AppTest:
    return pages.open_page("compare", **query)


def click(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    button.click().run()
    assert not app.exception, app.exception
    return app


def subheaders(app: AppTest) -> list[str]:
    return [header.value for header in app.subheader]


SECTIONS = ["Each model in its own metric", "Every model, every metric, the same test slices"]


def test_without_a_finished_run_the_page_says_what_to_do() -> None:
    app = open_page()
    assert any("No training has finished yet" in text.value for text in app.markdown)
    assert not app.subheader


def test_a_run_that_still_trains_is_not_offered(make: Callable[..., Run]) -> None:
    run = make("dice")
    run.write_status(dataclasses.replace(run.status, state="failed"))
    assert any("No training has finished yet" in text.value for text in open_page().markdown)


def test_the_newest_experiment_is_there_at_once(three: list[Run]) -> None:
    app = open_page()
    assert app.multiselect[0].value == ["first-accuracy", "first-iou", "first-dice"]
    assert app.query_params["runs"] == "first-accuracy,first-iou,first-dice", "the link reproduces the view"
    assert subheaders(app) == SECTIONS
    own, scores = app.dataframe[0].value, app.dataframe[1].value
    assert list(own["Run"]) == [run.id for run in three]
    assert list(scores.columns[3:]) == ["A · Accuracy", "B · IoU", "C · Dice", *BASELINES]
    conditions = next(text.value for text in app.markdown if "split by" in text.value)
    for said in ("n = 16 slices", "2 scans", "2 patients", "split by patient", "threshold 0.5"):
        assert said in conditions
    assert "LEAKY" not in conditions
    assert "A, B predict the same" in app.info[0].value
    assert "different metrics" in app.caption[0].value
    assert not app.error and not app.warning


BASELINES = ["Background", "Lung", "HU threshold"]


@pytest.mark.parametrize(
    ("tab", "there"),
    [
        ("Summary", SECTIONS),
        ("Slices", ["Slices"]),
        ("Statistics", ["Which model is better?", "Dice of each test scan"]),
        ("Failures", []),
        ("Export", ["Export"]),
        ("Nonsense", SECTIONS),
    ],
)
def test_a_link_opens_a_tab_and_nothing_else_is_computed(three: list[Run], tab: str, there: list[str]) -> None:
    app = open_page(tab=tab)
    assert subheaders(app) == there
    assert [each.label for each in app.tabs] == ["Summary", "Slices", "Statistics", "Failures", "Export"]
    assert not app.error


def test_the_summary_shows_a_slice_of_each_model_and_says_who_is_better(three: list[Run]) -> None:
    app = open_page()
    captions = [image.caption for picture in app.get("image") for image in picture.proto.imgs]
    assert captions[:2] == ["CT", "True mask"]
    assert [caption.rpartition(" · ")[0] for caption in captions[2:]] == ["A · Accuracy", "B · IoU", "C · Dice"]
    assert any("Accuracy and IoU model: the same predictions." in text.value for text in app.markdown)


def test_classical_methods_join_when_they_are_asked_for(three: list[Run]) -> None:
    app = open_page()
    click(app, "Add classical methods")
    assert pages.wait(app).state == "finished"
    app.run()
    assert list(app.dataframe[1].value.columns[-4:]) == ["Otsu", "Region growing", "Watershed", "K-means"]
    assert not [button for button in app.button if button.label == "Add classical methods"]
    app.session_state["tab"] = "Statistics"
    app.run()
    assert not app.exception
    assert not app.error


def test_the_best_model_is_in_bold(three: list[Run]) -> None:
    comparison = evaluate_runs(three)
    table = score_table.score_table(comparison, "pooled")
    html = score_table.in_bold(table, comparison, "pooled").to_html()
    row, column = list(table["Measure"]).index("Dice (foreground)"), list(table.columns).index("C · Dice")
    best = {
        name: evaluation.model.pooled["dice"] for name, evaluation in zip("ABC", comparison.evaluations, strict=True)
    }
    assert (f"row{row}_col{column}" in html.split("</style>")[0]) == (best["C"] == max(best.values()))
    assert html.count("font-weight: bold") >= 1
    alone = dataclasses.replace(comparison, evaluations=comparison.evaluations[:1])
    single = score_table.score_table(alone, "pooled")
    assert "font-weight" not in score_table.in_bold(single, alone, "pooled").to_html()


def test_means_come_with_their_spread(three: list[Run]) -> None:
    app = open_page()
    [levels] = [group for group in app.button_group if group.label == "Scores taken together"]
    levels.set_value("scans").run()
    table = app.dataframe[1].value.set_index("Measure")
    assert "±" in table.loc["Dice (foreground)", "C · Dice"]
    assert "HD95 in mm" in table.index


def test_a_link_chooses_the_models(three: list[Run]) -> None:
    app = open_page(runs="first-dice,gone")
    assert app.multiselect[0].value == ["first-dice"]
    assert list(app.dataframe[0].value["Model"]) == ["A · Dice"]
    slices = open_page(runs="first-dice,gone", tab="Slices")
    assert next(button for button in slices.button if button.label == "Most disagreed").disabled, "with whom?"


def test_no_model_is_a_state_with_a_way_on(three: list[Run]) -> None:
    app = open_page()
    app.multiselect[0].set_value([]).run()
    assert not app.exception
    assert "Choose at least one model" in app.info[0].value


def test_a_deleted_run_leaves_the_choice(three: list[Run]) -> None:
    app = open_page()
    shutil.rmtree(three[0].folder)
    app.run()
    assert not app.exception
    assert app.multiselect[0].value == ["first-iou", "first-dice"]


def test_missing_scores_are_made_by_one_click(make: Callable[..., Run]) -> None:
    runs = [make("iou"), make("dice")]
    app = open_page()
    assert "has not been scored yet" in app.info[0].value
    assert not app.dataframe, "half a comparison is none"
    click(app, "Score these models on the same slices")
    pages.wait(app)
    assert subheaders(app.run()) == SECTIONS
    assert all(run.evaluation.exists() for run in runs)


def test_runs_without_a_common_test_part_meet_on_what_none_has_seen(make: Callable[..., Run]) -> None:
    """Otherwise somebody compares a model on easy scans with one on hard scans."""
    one, other = make("iou", kind="slice"), make("dice", "second", kind="slice", seed=1)
    assert one.split.test != other.split.test
    evaluate_runs([one])
    evaluate_runs([other])
    app = open_page(runs=f"{one.id},{other.id}")
    assert not app.dataframe
    assert app.selectbox(key="compare-dataset").value == "phantoms"
    click(app, "Score these models on the same slices")
    pages.wait(app)
    app.run()
    common = sum(len(set(zs) & set(other.split.test.get(id, ()))) for id, zs in one.split.test.items())
    assert any(f"n = {common} slices" in text.value for text in app.markdown)
    assert subheaders(app) == SECTIONS
    app.session_state["tab"] = "Slices"
    assert "Predictions on another dataset are not kept" in app.run().info[-1].value
    app.session_state["tab"] = "Summary"
    app.multiselect[0].set_value([one.id]).run()
    assert all(box.label != "Scored on" for box in app.selectbox), "alone it has a test part"
    assert subheaders(app) == SECTIONS


def test_models_can_be_scored_on_another_dataset(three: list[Run], dataset: Dataset) -> None:
    shutil.copytree(dataset.folder, dataset_folder("copy"))
    write_json(dataset_folder("copy") / "dataset.json", dataclasses.replace(dataset, name="copy"))
    app = open_page(dataset="phantoms")
    assert app.selectbox(key="compare-dataset").value == "", "the runs' own dataset means their test part"
    app.selectbox(key="compare-dataset").set_value("copy").run()
    assert app.query_params["dataset"] == "copy"
    click(app, "Score these models on the same slices")
    pages.wait(app)
    app.run()
    conditions = next(text.value for text in app.markdown if "split by" in text.value)
    assert "n = 40 slices" in conditions
    assert "LEAKY" in conditions, "the copy holds the scans they have learned from"


def test_what_goes_wrong_is_one_line_and_no_traceback(three: list[Run], dataset: Dataset) -> None:
    for run in three:
        run.evaluation.unlink()
    dataset.path(dataset.case(next(iter(three[0].split.test))), "scan").write_bytes(b"broken")
    app = open_page()
    click(app, "Score these models on the same slices")
    pages.wait(app)
    app.run()
    assert not app.exception
    assert len(app.error) == 1
    assert "\n" not in app.error[0].value


def test_a_cancelled_scoring_leaves_nothing_and_can_be_repeated(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("iou")
    app = open_page()

    def cancelled(*args: object, **kwargs: object) -> None:
        raise Cancelled

    monkeypatch.setattr("covseg_core.evaluation.comparison.evaluate_runs", cancelled)
    click(app, "Score these models on the same slices")
    pages.wait(app)
    app.run()
    assert "cancelled" in app.warning[0].value
    assert not run.evaluation.exists()
    assert any(button.label.startswith("Score these models") for button in app.button)


def test_a_split_by_slice_is_marked(make: Callable[..., Run]) -> None:
    evaluate_runs([make("dice", kind="slice")])
    app = open_page()
    conditions = next(text.value for text in app.markdown if "split by" in text.value)
    assert "LEAKY" in conditions
    assert "split by slice" in conditions
    assert "LEAKY" in app.warning[0].value


def test_scores_outlive_their_dataset(three: list[Run], dataset: Dataset) -> None:
    delete_dataset(dataset.name)
    app = open_page()
    assert subheaders(app) == SECTIONS
    assert "no such dataset" in app.error[0].value


def test_jumps_go_to_the_slice_and_to_the_next_one(three: list[Run], dataset: Dataset) -> None:
    app = open_page(tab="Slices")
    table = slice_ranking.slice_table(evaluate_runs(three))
    for label, kind in (("Worst slice", "worst"), ("Best slice", "best")):
        found = slice_ranking.ranked(table, kind)  # type: ignore[arg-type]
        for case, z in found[:2]:
            click(app, label)
            assert (app.selectbox(key="compare-case").value, app.session_state["slice"]) == (case, z)
            assert any(f"slice {z + 1} of {case}" in caption.value for caption in app.caption)
    click(app, "Most disagreed")
    case, z = app.selectbox(key="compare-case").value, app.session_state["slice"]
    differing = {
        (id, z): np.count_nonzero(by_hand(dataset, id, 90)[z] != by_hand(dataset, id, 130)[z])
        for id in three[0].split.test
        for z in range(8)
    }
    assert differing[case, z] == max(differing.values()) > 0


def test_disagreement_is_counted_on_the_scans_own_grid(three: list[Run], dataset: Dataset) -> None:
    comparison = evaluate_runs(three)
    found = slice_ranking.disagreement(comparison, dataset, single_runs(three))
    for pixels, score in zip(found, comparison.evaluations[0].model.slices, strict=True):
        masks = [by_hand(dataset, score.case, limit)[score.z] for limit in (90, 130)]
        assert pixels == np.count_nonzero(masks[0] != masks[1])


def test_masks_come_in_the_scans_own_geometry(three: list[Run], dataset: Dataset, tmp_path: Path) -> None:
    """A mask that does not lie on its scan is worse than none."""
    case = next(iter(three[0].split.test))
    content = export_files.masks_zip(evaluate_runs(three), single_runs(three), dataset, case, 0.5)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} >= {f"mask_{run.id}.nii.gz" for run in three}
    scan = nib.load(dataset.path(dataset.case(case), "scan"))
    for run, limit in zip(three, LIMITS.values(), strict=True):
        image = nib.load(tmp_path / f"mask_{run.id}.nii.gz")
        np.testing.assert_array_equal(image.affine, scan.affine)
        assert image.shape == scan.shape
        canonical = np.asarray(nib.as_closest_canonical(image).dataobj).T
        np.testing.assert_array_equal(canonical, by_hand(dataset, case, limit))


def test_predictions_come_with_the_names_of_their_rows(three: list[Run]) -> None:
    comparison = evaluate_runs(three)
    with export_files.predictions_zip(comparison, single_runs(three)) as file, zipfile.ZipFile(file) as archive:
        assert isinstance(file, io.RawIOBase), "the download button takes no other kind of temporary file"
        rows = pd.read_csv(archive.open("rows.csv"))
        kept = np.load(io.BytesIO(archive.read("first-dice.npy")), allow_pickle=False)
    assert len(rows) == len(kept) == 16
    assert list(zip(rows["scan"], rows["slice"], strict=True)) == [
        (score.case, score.z) for score in comparison.evaluations[2].model.slices
    ]


def test_the_evidence_that_is_downloaded_can_be_verified(three: list[Run], tmp_path: Path) -> None:
    with export_files.evidence_zip(evaluate_runs(three), single_runs(three)) as file:
        (tmp_path / "evidence.zip").write_bytes(file.read())
    assert verify_bundle(tmp_path / "evidence.zip").same


def test_files_have_no_names_unless_the_box_is_ticked(
    three: list[Run], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box that is ticked by itself would give away who was ill."""
    given: list[tuple[str, str]] = []

    def button(label: str, data: Callable[[], bytes], *_: object, **__: object) -> None:
        if label == "Tables (CSV)":
            with zipfile.ZipFile(io.BytesIO(data())) as archive:
                given.append((archive.read("scans.csv").decode(), archive.read("slices.csv").decode()))

    monkeypatch.setattr("streamlit.download_button", button)
    app = open_page(tab="Export")
    [box] = [box for box in app.checkbox if box.label == "Names of the cases"]
    assert not box.value
    assert all("case-00" in table and "phantom" not in table for table in given[-1])
    box.check().run()
    assert all("phantom" in table and "case-00" not in table for table in given[-1])
