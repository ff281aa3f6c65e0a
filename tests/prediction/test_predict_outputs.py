"""All files of a prediction. What a user loses otherwise: a page that says something else than the masks, shares of a
lung that is not there, a name on a print, or a filter that eats lesions."""

from __future__ import annotations

import csv
import dataclasses
import re
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from chests import LESION, LUNG, SLICES, chest, grey, save_scan, stored

from covseg_core.errors import Cancelled, CovsegError, RunError, SettingError
from covseg_core.files import read_json, sha256_file, write_json
from covseg_core.prediction.ask import Answers, ask, lung_sides
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.output.report_html import MAX_LINES, choose_slices, make_sheet
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.runs import Run
from covseg_core.runs.operating_point import Thresholds

VOXEL_ML = 0.8 * 0.8 * 5 / 1000
NOT_AIR_NOT_TISSUE = -1000.0
"""The slope that makes a model of what is darker: lung and air."""


def lung_run(runs: Callable[..., Run]) -> Run:
    """Marks what is darker than soft tissue: in `ventilated()`, the lungs."""
    return runs("lung", grey(-300), slope=NOT_AIR_NOT_TISSUE, target="lung")


def ventilated() -> np.ndarray:
    """`chest()` in tissue up to the edge, so that all that is dark is lung; the lesion is opaque and no lung for it."""
    voxels = chest()
    voxels[:, :3] = 40
    voxels[10, 20, 0] = -900  # darker than most of the lungs, by which the scale is known
    return voxels


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return save_scan(tmp_path / "ct.nii.gz", ventilated())


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


class Text(HTMLParser):
    """The words on a page, and the tags."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.decode())
        self.text = " ".join(self.words)

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


# --- lungs


def test_lungs_and_shares_are_those_of_the_masks(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    """The lesion lies at high x: in the right lung. What is as dense as tissue is no lung for this model."""
    infection = runs(above=grey(-950))  # all that is lung, too
    prediction = predict(scan, [infection], tmp_path / "out", lungs=lung_run(runs))
    hu = stored(scan).T
    lung = stored(tmp_path / "out" / "lung_mask.nii.gz").T
    np.testing.assert_array_equal(lung, hu < -300)
    report = read_json(tmp_path / "out" / "report.json", Report)
    assert report == prediction.report
    assert report.lungs is not None
    right, left = (hu < -300)[..., 24:].sum(), (hu < -300)[..., :24].sum()
    assert (report.lungs.right.voxels, report.lungs.left.voxels) == (right, left)
    assert report.lungs.left.share == report.lungs.right.share == 1.0
    assert report.lungs.right.volume_ml == pytest.approx(right * VOXEL_ML)
    assert report.lungs.sha256 == sha256_file(lung_run(runs).onnx)
    assert report.mask.lung_share == 1.0
    image, mask = (nib.load(tmp_path / name) for name in ("ct.nii.gz", "out/lung_mask.nii.gz"))
    np.testing.assert_array_equal(image.affine, mask.affine)


def test_the_lesion_counts_for_its_lung(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    """A lung model that knows opacities: both lungs whole, and the lesion in the right one."""
    checked = read_scan(scan)
    answers = ask(checked, [runs()], Spool(), lung_run(runs))
    assert answers.lungs is not None
    whole = ventilated().T[:, ::-1, ::-1]
    values = ((whole < -300) | (whole == LESION)).astype(np.float32)
    lungs = dataclasses.replace(answers.lungs, values=values)
    lungs = dataclasses.replace(lungs, sides=lung_sides(checked, lungs))
    report = predict_at(checked, Answers(answers.models, lungs), output=tmp_path / "out").report
    lesion = np.count_nonzero(ventilated() == LESION)
    assert report.lungs is not None
    assert (report.lungs.right.infection_voxels, report.lungs.left.infection_voxels) == (lesion, 0)
    side = 15 * 30 * SLICES
    assert report.lungs.right.share == pytest.approx(lesion / side)
    assert report.mask.lung_share == pytest.approx(lesion / (2 * side))
    by_part = {row["part"]: row for row in rows(tmp_path / "out" / "report.csv")}
    assert float(by_part["right lung"]["lung_share_percent"]) == pytest.approx(100 * lesion / side, abs=1e-3)
    assert by_part["left lung"]["infection_voxels"] == "0"
    assert float(by_part["both lungs"]["volume_ml"]) == pytest.approx(2 * side * VOXEL_ML, abs=1e-4)
    assert by_part["mask"]["lesions"] == "1"
    assert by_part["outside the lungs"]["infection_voxels"] == "0"


def test_a_threshold_chosen_later_leaves_the_lungs_as_they_are(scan: Path, runs: Callable[..., Run]) -> None:
    checked = read_scan(scan)
    answers = ask(checked, [runs(above=0, slope=1 / 256)], Spool(), lung_run(runs))
    low, high = (predict_at(checked, answers, Thresholds(threshold)) for threshold in (0.1, 0.93))
    assert low.report.mask.voxels > high.report.mask.voxels
    assert low.lungs is not None
    np.testing.assert_array_equal(low.lungs, high.lungs)
    assert low.report.lungs is not None
    assert high.report.lungs is not None
    assert low.report.lungs.both.voxels == high.report.lungs.both.voxels
    assert low.report.lungs.both.infection_voxels > high.report.lungs.both.infection_voxels


def test_no_lungs_found_is_a_warning_and_no_division(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    nothing = runs("lung", 256, target="lung")
    report = predict(scan, [runs()], tmp_path / "out", lungs=nothing).report
    assert report.lungs is not None
    assert (report.lungs.both.voxels, report.lungs.both.share, report.mask.lung_share) == (0, None, None)
    assert any("found no lungs" in warning for warning in report.warnings)
    assert not stored(tmp_path / "out" / "lung_mask.nii.gz").any()
    assert "found no lungs" in Text((tmp_path / "out" / "report.html").read_bytes()).text


def test_infection_outside_the_lungs_is_a_warning(scan: Path, runs: Callable[..., Run]) -> None:
    everywhere = runs(above=grey(0))
    report = predict(scan, [everywhere], lungs=lung_run(runs)).report
    assert report.lungs is not None
    assert report.lungs.outside_voxels > 0
    assert any("outside the lungs" in warning for warning in report.warnings)


def test_what_lies_beyond_the_chest_is_left_out_and_counted(tmp_path: Path, runs: Callable[..., Run]) -> None:
    """A lesion on the table, left in the mask, is a false volume; left out without a word, a false report."""
    voxels = ventilated()
    voxels[24:44] = 40  # no lung on this side, whose edge is farther from the other lung than the rim
    scan = save_scan(tmp_path / "one_lung.nii.gz", voxels)
    everywhere, lungs = runs(above=grey(0)), lung_run(runs)
    cut = predict(scan, [everywhere], lungs=lungs)
    kept = predict(scan, [everywhere], lungs=lungs, keep_beyond=True)
    assert cut.report.lungs is not None
    assert kept.report.lungs is not None
    assert cut.report.lungs.beyond_voxels == np.count_nonzero(kept.mask > cut.mask) > 0
    assert not (cut.mask > kept.mask).any()
    assert kept.report.lungs.beyond_voxels == 0
    assert cut.report.lungs.infection_voxels == cut.report.mask.voxels
    assert any("beyond the chest" in warning for warning in cut.report.warnings)
    assert np.array_equal(cut.mask_of("lesions"), cut.mask), "the model's own mask and the vote of one differ"


def test_what_is_no_lung_model_is_refused(scan: Path, runs: Callable[..., Run]) -> None:
    with pytest.raises(SettingError, match="b is a model of the infection"):
        predict(scan, [runs("a")], lungs=runs("b"))
    with pytest.raises(SettingError, match="beside models of the lungs"):
        predict(scan, [runs("a", target="lung")], lungs=lung_run(runs))
    broken = lung_run(runs)
    broken.onnx.unlink()
    with pytest.raises(RunError, match="lung"):
        predict(scan.with_name("no-such-scan.nii"), [runs("a")], lungs=broken)


def test_progress_counts_the_slices_of_the_lung_model_too(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    seen: list[tuple[int, int]] = []
    models, lungs = [runs("a"), runs("b")], lung_run(runs)
    predict(scan, models, lungs=lungs, progress=lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 18), (18, 18))
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        predict(
            scan, models, tmp_path / "out", lungs=lungs, cancel=cancel, progress=lambda d, _: d > 12 and cancel.set()
        )
    assert not (tmp_path / "out").exists()


# --- small parts


def two_lesions() -> np.ndarray:
    voxels = ventilated()
    voxels[voxels == LESION] = LUNG
    voxels[32:36, 12:20, 2:4] = LESION  # 64 voxels
    voxels[8:10, 14:16, 3] = LESION  # 4 voxels of 3.2 mm3
    return voxels


def test_parts_below_the_smallest_size_are_left_out(tmp_path: Path, runs: Callable[..., Run]) -> None:
    scan = save_scan(tmp_path / "ct.nii.gz", two_lesions())
    models = [runs("a"), runs("b")]
    report = predict(scan, models, tmp_path / "all").report
    assert (report.mask.lesions, report.mask.voxels, report.mask.largest_voxels) == (2, 68, 64)
    kept = predict(scan, models, tmp_path / "at", minimum_mm3=12.8).report
    assert (kept.mask.lesions, kept.minimum_mm3) == (2, 12.8)
    report = predict(scan, models, tmp_path / "out", minimum_mm3=12.9).report
    assert (report.mask.lesions, report.mask.voxels) == (1, 64)
    assert [model.mask.voxels for model in report.models] == [64, 64]
    for name in ("mask.nii.gz", "mask_a.nii.gz", "mask_b.nii.gz"):
        mask = stored(tmp_path / "out" / name)
        assert (mask.sum(), mask[8:10].sum()) == (64, 0)
    checked = read_scan(scan)
    answers = ask(checked, models, Spool())
    assert predict_at(checked, answers, Thresholds(minimum_mm3=12.9)).report.mask == dataclasses.replace(
        report.mask, file=None
    )


def test_a_smallest_size_needs_to_know_the_voxels(tmp_path: Path, runs: Callable[..., Run]) -> None:
    """A filter that quietly does nothing, or takes 1 mm for granted, would be believed."""
    scan = save_scan(tmp_path / "ct.nii", chest(), np.eye(4))
    with pytest.raises(SettingError, match="voxel size is not known"):
        predict(scan, [runs()], tmp_path / "out", minimum_mm3=10)
    assert not (tmp_path / "out").exists()
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingError, match="smallest size"):
            predict(scan, [runs()], minimum_mm3=wrong)


# --- disagreement


def test_the_disagreement_glows_where_models_differ_and_nowhere_else(
    tmp_path: Path, scan: Path, runs: Callable[..., Run]
) -> None:
    predict(scan, [runs("a"), runs("b", grey(20))], tmp_path / "out")
    hu, levels = stored(scan), stored(tmp_path / "out" / "disagreement.nii.gz")
    np.testing.assert_array_equal(levels, np.where((hu > 20) & (hu <= 120), 255, 0))
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / "disagreement.nii.gz").affine, nib.load(scan).affine)
    predict(scan, [runs("a")], tmp_path / "one")
    assert not (tmp_path / "one" / "disagreement.nii.gz").exists()


def test_answers_on_disk_give_the_same_files(
    tmp_path: Path, scan: Path, runs: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [runs("a", 50, slope=1 / 200), runs("b", 20, slope=1 / 230), runs("c")]
    memory = predict(scan, models, tmp_path / "memory", lungs=lung_run(runs)).report
    monkeypatch.setattr(Spool.__init__, "__defaults__", (None, 0))
    disk = predict(scan, models, tmp_path / "disk", lungs=lung_run(runs)).report
    assert memory.mask == disk.mask
    for name in (name for name in memory.files if name.endswith(".nii.gz")):
        np.testing.assert_array_equal(stored(tmp_path / "memory" / name), stored(tmp_path / "disk" / name))


# --- the page


def page_of(tmp_path: Path, scan: Path, models: list[Run], **more: Any) -> tuple[Text, Report]:
    report = predict(scan, models, tmp_path / "page", **more).report
    return Text((tmp_path / "page" / "report.html").read_bytes()), report


def test_the_page_says_what_the_report_says(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    models = [runs("a"), runs("b", grey(20)), runs("c")]
    page, report = page_of(tmp_path, scan, models, lungs=lung_run(runs), minimum_mm3=5)
    low, high = (voxels * VOXEL_ML for voxels in report.range_voxels)
    for words in (
        "Infection on a chest CT",
        f"{report.mask.voxels * VOXEL_ML:.1f} mL infected",
        f"{low:.1f} to {high:.1f} mL range over 3 models",
        "Mean of 3",
        f"Combined by {report.combined}.",
        "Right lung",
        "Left lung",
        f"48 \u00d7 48, {SLICES} slices",
        "0.8 \u00d7 0.8 \u00d7 5 mm",
        "Hounsfield units",
        "smaller than 5 mm³",
        f"covseg {report.versions['covseg']}",
        report.scan.sha256,
        report.notice,
        *(model.sha256 for model in report.models),
    ):
        assert words in page.text, words
    assert "not for diagnosis" in page.text


@pytest.mark.parametrize("count", [1, 3])
def test_the_page_needs_nothing_from_elsewhere(
    tmp_path: Path, scan: Path, runs: Callable[..., Run], count: int
) -> None:
    """It is mailed, and opened on computers of hospitals."""
    page, _ = page_of(tmp_path, scan, [runs(id) for id in "abc"[:count]])
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(sources) == 3
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in sources)
    raw = (tmp_path / "page" / "report.html").read_text()
    assert "http" not in raw
    assert "@page { size: A4" in raw


def test_a_vote_is_called_a_vote_in_all_files(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    """Of two models that differ the vote has less than the mean: a reader has to know which of them it was."""
    models = [runs("unsure", 0, slope=1 / 1000), runs("sure", grey(20))]
    sizes = {}
    for combine in ("mean", "vote"):
        page, report = page_of(tmp_path, scan, models, combine=combine)
        assert f"{combine.capitalize()} of 2" in page.text
        assert f"Combined by {report.combined}." in page.text
        assert read_json(tmp_path / "page" / "report.json", Report).combine == combine
        assert [row["part"] for row in rows(tmp_path / "page" / "report.csv")] == [combine, "model", "model"]
        assert report.algorithm == f"covseg, {combine} of 2 models"
        sizes[combine] = report.mask.voxels
    assert sizes["mean"] > sizes["vote"] == 0


def test_a_report_of_an_earlier_version_is_read(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    """As covseg 0.1 wrote it: with the words of its vote, and nothing of means and mirrors."""
    predict(scan, [runs("a"), runs("b")], tmp_path / "out")
    path = tmp_path / "out" / "report.json"
    earlier = read_json(path, dict)
    for name in ("combine", "combined", "mirror"):
        del earlier[name]
    write_json(path, earlier | {"vote": "more than half of the models; a tie is left out"})
    report = read_json(path, Report)
    assert (report.combine, report.combined, report.mirror) == (None, "", False)


def test_a_page_without_spacing_has_voxels_and_no_millimetres(tmp_path: Path, runs: Callable[..., Run]) -> None:
    scan = save_scan(tmp_path / "ct.nii", ventilated(), np.eye(4))
    page, report = page_of(tmp_path, scan, [runs()], lungs=lung_run(runs))
    assert f"{report.mask.voxels:,} voxels infected" in page.text
    assert "size not known: no mL" in page.text
    assert not re.search(r"\d mL|cm²|\d mm³", page.text)
    assert not any(attributes.get("class") == "bar" for _, attributes in page.tags), "a scale bar without a scale"


def test_an_empty_mask_still_makes_a_page(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    page, report = page_of(tmp_path, scan, [runs(above=256)], lungs=lung_run(runs))
    assert (report.mask.voxels, report.mask.lesions) == (0, 0)
    assert "0.0 mL infected" in page.text
    assert [tag for tag, _ in page.tags].count("img") == 3


def test_many_models_and_warnings_do_not_run_off_the_page(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    prediction = predict(scan, [runs(f"model-{n}") for n in range(9)])
    report = dataclasses.replace(prediction.report, warnings=tuple(f"warning {n}" for n in range(20)))
    page = Text(make_sheet(report, prediction.scan.voxels, prediction.mask, None)).text
    assert "and 4 more in report.csv" in page
    assert "more in report.json" in page
    assert len(re.findall(r"[Ww]arning \d+", page)) == MAX_LINES


def test_markup_in_a_warning_or_a_name_is_text(scan: Path, runs: Callable[..., Run]) -> None:
    prediction = predict(scan, [runs()])
    markup = "<script>alert(1)</script>"
    models = tuple(dataclasses.replace(model, run=markup) for model in prediction.report.models)
    report = dataclasses.replace(prediction.report, warnings=(markup,), models=models, combined=markup, notice=markup)
    page = make_sheet(report, prediction.scan.voxels, prediction.mask, None)
    assert b"<script" not in page
    assert Text(page).text.count("<script>alert(1)</script>") == 4  # in the table, the warnings, the origin, the footer


def test_the_slices_shown_are_the_largest_and_others_far_from_it() -> None:
    mask = np.zeros((20, 8, 8), np.uint8)
    for z, area in {2: 20, 3: 22, 10: 30, 11: 29, 17: 15}.items():
        mask[z].flat[:area] = 1
    assert choose_slices((2, 3, 10, 11, 17), mask, None) == [2, 10, 17]
    assert choose_slices((2, 3), mask * np.isin(np.arange(20), (2, 3))[:, None, None], None) == [2, 3]
    empty = np.zeros_like(mask)
    assert choose_slices((), empty, None) == [5, 10, 14]
    lungs = empty.copy()
    lungs[4:13] = 1
    assert choose_slices((), empty, lungs) == [6, 8, 10]
    assert choose_slices((), empty[:1], None) == [0]


# --- whole or not at all


def test_a_csv_that_was_edited_is_never_overwritten(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    predict(scan, [runs()], tmp_path / "out")
    (tmp_path / "out" / "report.csv").write_text("mine")
    with pytest.raises(CovsegError, match=r"report\.csv: exists"):
        predict(scan, [runs()], tmp_path / "out")
    assert (tmp_path / "out" / "report.csv").read_text() == "mine"


def test_no_name_reaches_any_file_with_all_outputs(tmp_path: Path, runs: Callable[..., Run]) -> None:
    (tmp_path / "Doe Jane").mkdir()
    scan = save_scan(tmp_path / "Doe Jane" / "doe_jane.nii", ventilated())
    predict(scan, [runs("a"), runs("b")], tmp_path / "out", lungs=lung_run(runs))
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(files) == {
        "mask.nii.gz", "mask_a.nii.gz", "mask_b.nii.gz", "lung_mask.nii.gz", "disagreement.nii.gz",
        "report.json", "report.csv", "report.html",
    }  # fmt: skip
    assert read_json(tmp_path / "out" / "report.json", Report).files.keys() == set(files) - {"report.json"}
    for name, content in files.items():
        assert b"doe" not in content.lower() or name.endswith(".gz"), name
        if name.endswith(".gz"):
            assert b"doe" not in bytes(nib.load(tmp_path / "out" / name).header.binaryblock).lower()
