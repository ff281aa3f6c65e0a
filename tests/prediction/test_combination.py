"""Several models, each at its own operating point, against a slow reference. What a user loses otherwise: a mean or a
vote of other masks than those that stand beside it, or a point that validation has found and nobody uses."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from chests import LESION, SIDE, SLICES, TISSUE, chest, grey, make_run, save_scan, stored
from scipy import ndimage

from covseg_core.config import PrepareConfig
from covseg_core.data.slices.slices import Grid
from covseg_core.errors import SettingError
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.ask import Answers, ask
from covseg_core.prediction.combination import MIDDLE, Combine, Mean, together
from covseg_core.prediction.masks.kept import Rules
from covseg_core.prediction.model_info import ModelInfo
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.output.report_html import MAX_ROWS, make_sheet
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.probabilities import Probabilities, centred, mean
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import OnDisk, Spool
from covseg_core.runs import Run
from covseg_core.runs.operating_point import FILE, VERSION, OperatingPoint, Threshold, Thresholds, thresholds_of

VOXEL_MM3 = 0.8 * 0.8 * 5
MODELS = {"a": (50, 1 / 200), "b": (20, 1 / 230), "c": (110, 1 / 100), "d": (0, 1 / 256), "e": (80, 1 / 170)}
"""Grey value of probability 0, and its rise by grey value."""
POINTS = {
    "a": Threshold(0.7, 20.0, 0.8),
    "b": Threshold(0.85, 0.0),
    "c": Threshold(0.3, 50.0, 0.6),
    "d": None,
    "e": Threshold(0.55, 10.0, 0.8),
}


@pytest.fixture
def runs(checkpoints_folder: Path) -> Callable[..., Run]:
    def make(id: str, *how: float, **config: Any) -> Run:
        return make_run(checkpoints_folder, id, *how, **config)

    return make


def with_point(run: Run, cut: Threshold | None) -> Run:
    if cut is not None:
        digest, values = sha256_file(run.onnx), (0.8, 0.7, cut.threshold, 0.75, 2, 20)
        point = OperatingPoint(
            VERSION, "", digest, "validation", "Dice", cut.threshold, cut.minimum_mm3, "mm3", *values, cut.peak
        )
        write_json(run.folder / FILE, point)
    return run


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A scan with every grey level, in parts of every size."""
    noise = np.random.default_rng(0).normal(0, 1, (SIDE, SIDE, SLICES))
    smooth = ndimage.gaussian_filter(noise, 0.8) + noise / 8
    return save_scan(tmp_path / "noisy.nii.gz", (chest() + 500 * smooth).astype(np.int16))


def by_hand(scan: Path, id: str) -> np.ndarray:
    """(x, y, z) float32: what a model says of a scan of its own size, pixel by pixel."""
    above, slope = MODELS[id]
    levels = np.clip(np.rint(grey(stored(scan).astype(float))), 0, 255).astype(np.float32)
    return np.clip((levels - np.float32(above)) * np.float32(slope), 0, 1)


def left_out(mask: np.ndarray, minimum_mm3: float, sure: np.ndarray | None = None) -> np.ndarray:
    """A mask without the parts that are too small, or nowhere sure, one after another."""
    mask, (parts, number) = mask.copy(), ndimage.label(mask, np.ones((3, 3, 3)))
    for part in range(1, number + 1):
        small = np.count_nonzero(parts == part) * VOXEL_MM3 < minimum_mm3 - 1e-6
        if small or not (sure is None or sure[parts == part].any()):
            mask[parts == part] = False
    return mask


@pytest.mark.parametrize("ids", ["ab", "ad", "abc", "bcd", "abcd", "abcde"])
def test_the_vote_counts_the_masks_of_the_models_at_their_own_points(
    tmp_path: Path, noisy: Path, runs: Callable[..., Run], ids: str
) -> None:
    models = [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in ids]
    prediction = predict(noisy, models, tmp_path / "out", threshold=None, combine="vote")

    cuts = [POINTS[id] or Threshold(0.5, 0.0) for id in ids]
    own = [own_by_hand(noisy, id, cut) for id, cut in zip(ids, cuts, strict=True)]
    votes, middle = sum(mask.astype(int) for mask in own), float(np.median([cut.minimum_mm3 for cut in cuts]))
    expected = left_out(2 * votes > len(ids), middle)
    for id, mask in zip(ids, own, strict=True):
        np.testing.assert_array_equal(stored(tmp_path / "out" / f"mask_{id}.nii.gz"), mask)
    np.testing.assert_array_equal(stored(tmp_path / "out" / "mask.nii.gz"), expected)

    report = prediction.report
    assert (report.threshold, report.minimum_mm3) == (None, middle)
    used = [(model.threshold, model.minimum_mm3, model.peak) for model in report.models]
    assert used == [dataclasses.astuple(cut) for cut in cuts]
    assert report.peak is None
    assert report.tied_voxels == np.count_nonzero(2 * votes == len(ids))
    assert (report.combine, report.combined) == ("vote", "vote: more than half of the models; a tie is left out")
    plain = sum((by_hand(noisy, id) >= 0.5).astype(int) for id in ids) * 2 > len(ids)
    assert 0 < expected.sum() != plain.sum(), "0.5 for all would give the same: the test shows nothing"


def own_by_hand(scan: Path, id: str, cut: Threshold) -> np.ndarray:
    """(x, y, z) bool: a model's own mask."""
    said = by_hand(scan, id)
    return left_out(said >= np.float32(cut.threshold), cut.minimum_mm3, said >= np.float32(cut.peak))


def stretched(probability: float, threshold: float) -> float:
    """By two straight lines: 0 stays, the threshold comes to 0.5, 1 stays."""
    if probability < threshold:
        return 0.5 * probability / threshold
    return 0.5 + 0.5 * (probability - threshold) / (1 - threshold)


def mean_by_hand(scan: Path, ids: str, thresholds: Sequence[float]) -> np.ndarray:
    """(x, y, z) float64: the mean of the models' stretched probabilities, voxel by voxel."""
    said = [by_hand(scan, id) for id in ids]
    mean = np.zeros(said[0].shape)
    for place in np.ndindex(mean.shape):
        mean[place] = sum(stretched(float(p[place]), t) for p, t in zip(said, thresholds, strict=True)) / len(ids)
    return mean


@pytest.mark.parametrize("ids", ["ab", "ad", "abc", "bcd", "abcd", "abcde"])
def test_the_mean_is_that_of_the_probabilities_with_each_threshold_at_one_half(
    tmp_path: Path, noisy: Path, runs: Callable[..., Run], ids: str
) -> None:
    """Against the slow obvious version; then parts below the median of the models' sizes or peaks are left out."""
    models = [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in ids]
    prediction = predict(noisy, models, tmp_path / "out")

    cuts = [POINTS[id] or Threshold(0.5, 0.0) for id in ids]
    middle = float(np.median([cut.minimum_mm3 for cut in cuts]))
    mean = mean_by_hand(noisy, ids, [cut.threshold for cut in cuts])
    assert np.abs(mean - 0.5).min() > 1e-6, "rounding may decide: the test shows nothing"
    peak = float(np.median([stretched(cut.peak, cut.threshold) for cut in cuts]))
    assert (peak > 0.5) == (ids in ("abc", "abcde"))
    assert peak <= 0.5 or np.abs(mean - peak).min() > 1e-6
    expected = left_out(mean >= 0.5, middle, mean >= peak)
    np.testing.assert_array_equal(stored(tmp_path / "out" / "mask.nii.gz"), expected)
    for id, cut in zip(ids, cuts, strict=True):
        own = own_by_hand(noisy, id, cut)
        np.testing.assert_array_equal(stored(tmp_path / "out" / f"mask_{id}.nii.gz"), own)

    report = prediction.report
    assert (report.combine, report.threshold, report.minimum_mm3, report.tied_voxels) == ("mean", None, middle, 0)
    assert report.combined == "the mean of the models' probabilities, each stretched so that its threshold comes to 0.5"
    vote = predict(noisy, models, combine="vote")
    assert np.count_nonzero(prediction.mask != vote.mask) > 0, "a vote would give the same: the test shows nothing"


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_one_threshold_for_all_is_the_same_rule(noisy: Path, runs: Callable[..., Run], threshold: float) -> None:
    """At 0.5 it is the plain mean."""
    mean = mean_by_hand(noisy, "abc", [threshold] * 3)
    if threshold == 0.5:
        np.testing.assert_allclose(mean, np.mean([by_hand(noisy, id) for id in "abc"], axis=0, dtype=float), atol=1e-12)
    assert np.abs(mean - 0.5).min() > 1e-6
    prediction = predict(noisy, [runs(id, *MODELS[id]) for id in "abc"], threshold=threshold)
    np.testing.assert_array_equal(prediction.mask, (mean >= 0.5).T)


def test_the_mean_by_hand() -> None:
    """Half way to the threshold and half way from it to 1 cancel each other; a sure model does not win against two."""
    at = (0.2, 0.8)
    for probabilities, expected in (((0.1, 0.9), 0.5), ((0.2, 0.8), 0.5), ((0.6, 0.8), 0.625), ((0, 0.8), 0.25)):
        said = [centred(np.float32([p]), t) for p, t in zip(probabilities, at, strict=True)]
        assert mean(said)[0] == pytest.approx(expected, abs=1e-6)
    assert mean([centred(np.float32([p]), 0.2) for p in (1, 0, 0)])[0] == pytest.approx(1 / 3)


def test_the_order_of_the_models_decides_about_no_voxel() -> None:
    said = np.random.default_rng(0).random((5, 100_000), np.float32)
    for order in ([4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        np.testing.assert_array_equal(mean(iter(said[order])), mean(said))


def test_models_that_all_stand_at_their_threshold_have_the_voxel() -> None:
    """As a single model has, at its own: a rounding below 0.5 would lose it."""
    for count in range(1, 12):
        at = [0.05 + 0.9 * number / count for number in range(count)]
        assert mean([centred(np.float32([threshold]), threshold) for threshold in at])[0] == np.float32(0.5)
        below = [np.nextafter(np.float32(0.5), np.float32(0), dtype=np.float32).reshape(1)] * count
        assert mean(below)[0] < np.float32(0.5)


def test_specks_far_apart_are_found_wherever_they_are(tmp_path: Path, runs: Callable[..., Run]) -> None:
    """Most of a scan shows nothing, and is not looked at: corners, first and last slice must not go with it."""
    voxels = chest()
    voxels[0, 0, 0] = voxels[-1, -1, -1] = voxels[0, -1, 3] = voxels[20, 0, 1] = 230
    scan = save_scan(tmp_path / "ct.nii.gz", voxels)
    mask = predict(scan, [runs("a", grey(160), slope=1 / 8), runs("b", grey(180), slope=1 / 4)]).mask
    np.testing.assert_array_equal(mask, (voxels >= LESION).T)


def test_the_mean_needs_the_memory_of_a_few_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the grid of a long scan the probabilities of one model take 630 MB."""
    shape, side = (320, 64, 64), 16
    values = np.random.default_rng(0).random((shape[0], side, side), np.float32)
    grid = Grid(shape[1:], (1.0, 1.0), side, "area")
    info = ModelInfo("a", "dice", "quick", "none", PrepareConfig(side), "")
    answers = [Probabilities(info, "infection", grid, values, (), 0.0)] * 5
    combined = Mean(shape, Rules(None, None, None))
    for answer in answers:
        combined.add(answer, Threshold())
    monkeypatch.setattr(Rules, "keep", lambda self, mask, minimum, sure: mask)
    tracemalloc.start()
    mask = combined.decide(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.sum() > 0
    assert peak < 4 * np.prod(shape) / 2, "half of one model's probabilities"


@pytest.mark.parametrize("combine", get_args(Combine))
@pytest.mark.parametrize("keep_on_disk", [False, True])
def test_a_setting_chosen_later_gives_what_a_prediction_with_it_gives(
    tmp_path: Path, noisy: Path, runs: Callable[..., Run], keep_on_disk: bool, combine: Combine
) -> None:
    """The page and the command line must agree, bit for bit, also with each model at its own point."""
    models = [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in "acd"]
    checked = read_scan(noisy)
    answers = ask(checked, models, Spool(tmp_path / "answers", 0 if keep_on_disk else 2**20))
    assert all(isinstance(answer.values, OnDisk) == keep_on_disk for answer in answers.models)
    now = predict(noisy, models, tmp_path / "now", threshold=None, combine=combine)
    later = predict_at(checked, answers, thresholds_of(models), tmp_path / "later", combine=combine)
    np.testing.assert_array_equal(later.mask, now.mask)
    for run in models:
        np.testing.assert_array_equal(later.mask_of(run.id), now.mask_of(run.id))
    same = {"created": "", "seconds": 0.0, "files": {}}
    assert dataclasses.replace(later.report, **same) == dataclasses.replace(now.report, **same)
    for name in ("report.csv", *(name for name in now.report.files if name.endswith(".nii.gz"))):
        assert (tmp_path / "later" / name).read_bytes() == (tmp_path / "now" / name).read_bytes()


@pytest.mark.parametrize("combine", get_args(Combine))
def test_the_same_cut_for_each_is_the_same_as_one_for_all(
    noisy: Path, runs: Callable[..., Run], combine: Combine
) -> None:
    checked = read_scan(noisy)
    answers = ask(checked, [runs(id, *MODELS[id]) for id in "abcd"], Spool())
    one = predict_at(checked, answers, Thresholds(0.6, 20.0, 0.8), combine=combine)
    each = predict_at(checked, answers, Thresholds(0.5, 20.0, each=(Threshold(0.6, 20.0, 0.8),) * 4), combine=combine)
    np.testing.assert_array_equal(each.mask, one.mask)
    assert [model.mask for model in each.report.models] == [model.mask for model in one.report.models]
    assert each.report.tied_voxels == one.report.tied_voxels


def specked() -> np.ndarray:
    """A large lesion, and a speck of four voxels far from it."""
    voxels = chest()
    voxels[8:10, 14:16, 3] = LESION
    return voxels


@pytest.mark.parametrize("combine", get_args(Combine))
@pytest.mark.parametrize("ids", ["a", "abc"])
def test_a_peak_for_all_leaves_out_what_is_nowhere_sure(
    noisy: Path, runs: Callable[..., Run], ids: str, combine: Combine
) -> None:
    """Also of a single model, which most people use."""
    models = [runs(id, *MODELS[id]) for id in ids]
    plain = predict(noisy, models, threshold=0.4, combine=combine)
    cut = predict(noisy, models, threshold=0.4, peak=0.75, combine=combine)
    for id in ids:
        np.testing.assert_array_equal(cut.mask_of(id).T, own_by_hand(noisy, id, Threshold(0.4, 0.0, 0.75)))
    assert 0 < cut.mask.sum() < plain.mask.sum()
    assert (cut.report.peak, plain.report.peak) == (0.75, 0)
    assert {model.peak for model in cut.report.models} == {0.75}
    page = make_sheet(cut.report, cut.scan.voxels, cut.mask, None).decode()
    assert "Parts whose probability nowhere reaches 0.75 left out" in page
    assert "nowhere reaches" not in make_sheet(plain.report, plain.scan.voxels, plain.mask, None).decode()


def test_a_peak_below_the_threshold_changes_nothing(noisy: Path, runs: Callable[..., Run]) -> None:
    model = runs("a", *MODELS["a"])
    plain, low = (predict(noisy, model, threshold=0.6, peak=peak) for peak in (None, 0.6))
    np.testing.assert_array_equal(low.mask, plain.mask)


def test_a_model_has_no_vote_for_what_is_too_small_for_it(tmp_path: Path, runs: Callable[..., Run]) -> None:
    """Else the vote has a lesion that only one of three masks beside it has."""
    scan = save_scan(tmp_path / "ct.nii.gz", specked())
    blind = runs("blind", grey(LESION) + 1)  # sees nothing
    strict, plain = with_point(runs("strict", grey(120)), Threshold(0.5, 50.0)), runs("plain", grey(120))
    prediction = predict(scan, [strict, plain, blind], threshold=None, combine="vote")
    speck = np.s_[3, 14:16, 8:10]
    assert prediction.report.minimum_mm3 == 0
    assert not prediction.mask_of("strict")[speck].any() and prediction.mask_of("plain")[speck].all()
    assert not prediction.mask[speck].any()
    np.testing.assert_array_equal(prediction.mask, prediction.mask_of("strict"))


@pytest.mark.parametrize("combine", get_args(Combine))
def test_sizes_do_not_hide_what_the_models_have_beyond_the_chest(
    tmp_path: Path, runs: Callable[..., Run], combine: Combine
) -> None:
    """How much was left out there is a warning to the user; it is that of the combined mask, at whatever size."""
    voxels = chest()
    voxels[24:44] = TISSUE  # one lung only: the other side lies beyond its hull
    scan = save_scan(tmp_path / "ct.nii.gz", voxels)
    lungs = runs("lungs", 80, -1e4, target="lung")
    checked = read_scan(scan)
    answers = ask(checked, [runs(id, grey(0)) for id in "abc"], Spool(), lungs)
    free = predict_at(checked, answers, Thresholds(), keep_beyond=True, combine=combine)
    for setting in (
        Thresholds(),
        Thresholds(0.5, 500.0),
        Thresholds(0.5, 20.0, each=(Threshold(), Threshold(0.9, 1e6), Threshold(0.2, 20.0))),
    ):
        cut = predict_at(checked, answers, setting, combine=combine)
        plain = dataclasses.replace(setting, minimum_mm3=0, each=())
        sided = predict_at(checked, answers, plain, combine=combine)
        assert cut.report.lungs is not None
        assert cut.report.lungs.beyond_voxels == np.count_nonzero(free.mask > sided.mask) > 0


def test_a_threshold_that_is_given_holds_for_all_alike(noisy: Path, runs: Callable[..., Run]) -> None:
    models = [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in "abc"]
    report = predict(noisy, models, threshold=0.6).report
    assert (report.threshold, report.minimum_mm3, report.operating) == (0.6, 0, "")
    assert {(model.threshold, model.minimum_mm3) for model in report.models} == {(0.6, 0)}


@pytest.mark.parametrize(
    ("each", "words"),
    [
        ((Threshold(0.4),), "one for each of 2 models"),
        ((Threshold(0.4), Threshold(0.5), Threshold(0.6)), "one for each of 2 models"),
        ((Threshold(0.4), Threshold(1.0)), "above 0 and below 1"),
        ((Threshold(0.4), Threshold(float("nan"))), "above 0 and below 1"),
        ((Threshold(0.4), Threshold(0.5, -1.0)), "0 or more"),
        ((Threshold(0.4), Threshold(0.5, 0.0, 1.0)), "from 0 to below 1"),
        ((Threshold(0.4), Threshold(0.5, 0.0, float("nan"))), "from 0 to below 1"),
    ],
)
def test_points_that_cannot_be_used_are_refused(
    noisy: Path, runs: Callable[..., Run], each: tuple[Threshold, ...], words: str
) -> None:
    checked = read_scan(noisy)
    answers = ask(checked, [runs(id, *MODELS[id]) for id in "ab"], Spool())
    with pytest.raises(SettingError, match=words):
        predict_at(checked, answers, Thresholds(each=each))


def test_without_a_voxel_size_a_size_of_any_model_is_refused_and_points_do_without(
    tmp_path: Path, runs: Callable[..., Run]
) -> None:
    scan = save_scan(tmp_path / "ct.nii", chest(), np.eye(4))
    models = [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in "ab"]
    checked = read_scan(scan)
    answers = ask(checked, models, Spool())
    with pytest.raises(SettingError, match="20 mm3, but the scan's voxel size is not known"):
        predict_at(checked, answers, Thresholds(each=(Threshold(0.4), Threshold(0.4, 20.0))))
    report = predict(scan, models, threshold=None).report
    assert [(model.threshold, model.minimum_mm3) for model in report.models] == [(0.7, 0), (0.85, 0)]
    assert "the scan's voxel size is not known" in report.operating


def test_another_way_to_combine_is_refused_before_the_scan_is_read(
    tmp_path: Path, noisy: Path, runs: Callable[..., Run]
) -> None:
    models = [runs(id, *MODELS[id]) for id in "ab"]
    with pytest.raises(SettingError, match="^combine: 'median'; expected mean or vote$"):
        predict(tmp_path / "no-such-scan.nii", models, combine="median")
    checked = read_scan(noisy)
    with pytest.raises(SettingError, match="^combine: 'median'; expected mean or vote$"):
        predict_at(checked, ask(checked, models, Spool()), combine="median")


# --- in words


def test_the_sentence_says_whose_point_is_used_and_what_the_combined_mask_leaves_out(runs: Callable[..., Run]) -> None:
    models = [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in "abcde"]
    a, b, c, d, e = models
    assert thresholds_of([a, b]).words == (
        "each model at its own, parts of the combined mask from 10 mm³ (the median): the operating points of the runs"
    )
    assert thresholds_of([b, d]).words == (
        "each model at its own: the operating points of the runs, 0.5 for d, which has none"
    )
    (e.folder / FILE).unlink()
    assert thresholds_of([a, d, e]).why == "the operating points of the runs, 0.5 for d and e, which have none"
    (c.folder / FILE).unlink()
    assert thresholds_of([a, c, d, e]).why == "the operating points of the runs, 0.5 for 3 of them, which have none"


def sheet_of(scan: Path, models: Sequence[Run]) -> tuple[str, Report]:
    prediction = predict(scan, models, threshold=None)
    page = make_sheet(prediction.report, prediction.scan.voxels, prediction.mask, None).decode()
    return page, prediction.report


def test_the_page_to_print_has_threshold_and_size_of_each(noisy: Path, runs: Callable[..., Run]) -> None:
    page, report = sheet_of(noisy, [with_point(runs(id, *MODELS[id]), POINTS[id]) for id in "acd"])
    assert (
        "in their order: threshold 0.7, parts from 20 mm³ that reach 0.8; "
        "threshold 0.3, parts from 50 mm³ that reach 0.6; threshold 0.5, parts of any size." in page
    )
    assert "the operating points of the runs, 0.5 for d, which has none" in page
    assert "Parts of the combined mask smaller than 20 mm&sup3; (the median) left out" in page
    assert report.minimum_mm3 == 20


def test_points_of_many_models_do_not_run_off_the_page(noisy: Path, runs: Callable[..., Run]) -> None:
    count = MAX_ROWS + 3
    models = [with_point(runs(f"m{number}", *MODELS["a"]), Threshold(0.3 + number / 20)) for number in range(count)]
    page, _ = sheet_of(noisy, models)
    assert page.count("parts of any size") == MAX_ROWS
    assert "; 3 more in report.csv" in page


# --- what the viewer draws


@pytest.mark.parametrize("combine", get_args(Combine))
def test_a_plane_of_several_models_is_their_mask(noisy: Path, runs: Callable[..., Run], combine: Combine) -> None:
    """Smooth edges are drawn where the stretched probabilities reach 0.5: that is where the mask ends."""
    checked = read_scan(noisy)
    coarse = {"b": PrepareConfig(32), "e": PrepareConfig(96)}
    models = [runs(id, *MODELS[id], prepare=coarse.get(id, PrepareConfig(SIDE))) for id in "abcde"]
    answers = ask(checked, models, Spool())
    for count in (1, 2, 3, 4, 5):
        cuts = (Threshold(0.7), Threshold(0.85), Threshold(0.3), Threshold(), Threshold(0.55))[:count]
        prediction = predict_at(checked, Answers(answers.models[:count]), Thresholds(each=cuts), combine=combine)
        for z in range(SLICES):
            planes = [centred(one.plane(z), cut.threshold) for one, cut in zip(answers.models, cuts, strict=False)]
            np.testing.assert_array_equal(together(planes, combine) >= MIDDLE, prediction.mask[z])


THRESHOLDS = (1e-4, *(step / 100 for step in range(1, 100)), 1 - 1e-4)


def test_stretching_moves_no_probability_across_its_threshold() -> None:
    """Every float16, the float32 of each side of the threshold, and the ends: else the viewer draws another mask than
    the one that is saved."""
    halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
    assert (halves[0], halves[-1]) == (0, 1)
    for threshold in THRESHOLDS:
        at = int(np.float32(threshold).view(np.int32))
        near = np.arange(at - 20_000, at + 20_001, dtype=np.int32).view(np.float32)
        values = np.sort(np.concatenate([halves.astype(np.float32), near[near <= 1]]))
        moved = centred(values, threshold)
        assert moved.dtype == np.float32
        np.testing.assert_array_equal(moved >= np.float32(0.5), values >= threshold)
        assert (np.diff(moved) >= 0).all(), threshold
        assert (moved[0], moved[-1]) == (0, 1)
