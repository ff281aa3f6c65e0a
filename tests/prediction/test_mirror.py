"""Mirror images. What a user loses otherwise: a lesion on both sides of the chest, answers of one kind taken for those
of the other, and a report that does not tell them apart."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chests import SIDE, SLICES, chest, grey, save_scan, stored
from known import node, save_known

from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.data.slices.context import with_context
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.data.slices.lungs import near_lungs
from covseg_core.data.slices.slices import to_images, to_native
from covseg_core.errors import SettingError
from covseg_core.files import read_json, write_json
from covseg_core.prediction.ask import Answers, ask, unanswered
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.runs import Run

SIZE = 32


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan without any symmetry, a little off the middle, so that its box of lungs has an odd padding."""
    noise = np.random.default_rng(0).integers(-60, 61, (SIDE, SIDE, SLICES), np.int16)
    return save_scan(tmp_path / "ct.nii.gz", (chest() + noise)[3:])


def lung_run(runs: Callable[..., Run]) -> Run:
    """Marks what is darker than soft tissue, air in front of the chest excepted."""
    return runs("lung", grey(-300), slope=-1000.0, target="lung")


RAMP = (np.arange(SIZE, dtype=np.float32) + 1) / SIZE
"""What `lopsided` makes of a column: it sees the left of the picture badly."""


def lopsided(root: Path, id: str, prepare: PrepareConfig) -> Run:
    """A model whose answer depends on the side: grey / 255 * `RAMP`, of the last channel, which is above the slice."""
    run = Run(root / id)
    write_json(run.folder / "config.json", RunConfig(id, "e", "d", "f", "dice", "quick", "2026-01-01", prepare=prepare))
    channels = prepare.channels
    last = np.zeros((1, channels, 1, 1))
    last[0, -1] = 1
    nodes = [
        node("Mul", "grey ramp", "weighted"),
        node("Transpose", "weighted", "planes", perm=[0, 3, 1, 2]),
        node("Conv", "planes last", "answer"),
        node("Transpose", "answer", "masks", perm=[0, 2, 3, 1]),
    ]
    save_known(run.onnx, SIZE, nodes, {"ramp": RAMP[:, None] / 255, "last": last}, channels)
    return run


def seen(read: Scan, answers: Answers) -> np.ndarray:
    """(Z, S, S) float32 0..1: what the model looks at, by hand: the slice itself, or the one above it."""
    [answer] = answers.models
    prepare = answer.model.prepare
    images = to_images(to_uint8(read.volume.voxels, read.scale, prepare.window), answer.grid)
    shown = with_context(images, range(SLICES), prepare, read.volume.spacing[0])
    return (shown[..., -1] if prepare.context else shown).astype(np.float32) / 255


@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("region", ["slice", "lungs"])
def test_the_answer_is_the_mean_of_both_with_the_mirrored_one_mirrored_back(
    checkpoints_folder: Path, scan: Path, runs: Callable[..., Run], region: Any, context: int
) -> None:
    """Against a mirrored prediction made by hand, also in the lungs alone and with neighbouring slices."""
    run = lopsided(checkpoints_folder, "lopsided", PrepareConfig(SIZE, region=region, context=context))
    read, lungs = read_scan(scan), lung_run(runs)
    plain = ask(read, [run], Spool(), lungs)
    both = ask(read, [run], Spool(), lungs, mirror=True)
    grey = seen(read, plain)
    near = np.ones_like(grey)
    if region == "lungs":
        assert plain.sides is not None and plain.models[0].grid.box is not None
        near = near_lungs(plain.sides, plain.models[0].grid).astype(np.float32)
        assert 0 < near.mean() < 1 and (near != near[..., ::-1]).any()
    straight, mirrored = (near * grey * RAMP, (grey[..., ::-1] * RAMP)[..., ::-1] * near)
    np.testing.assert_allclose(plain.models[0].values[0:SLICES], straight, atol=1e-6)
    np.testing.assert_allclose(both.models[0].values[0:SLICES], (straight + mirrored) / 2, atol=1e-6)
    assert (both.mirror, plain.mirror) == (True, False)
    assert both.lungs is not None and not both.lungs.mirror
    native = to_native((straight + mirrored) / 2, plain.models[0].grid)
    sure = np.abs(native - 0.3) > 1e-5
    mask = predict(scan, run, threshold=0.3, lungs=lungs, mirror=True, keep_beyond=True).mask
    np.testing.assert_array_equal(mask[sure], (native >= 0.3)[sure])


def test_a_model_that_knows_no_side_gives_the_same_mask(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    """Of whatever size, on the scan's own grid: half a pixel to one side would show at every edge."""
    for size in (SIZE, SIDE, 96):
        run = runs(f"model-{size}", grey(-400), prepare=PrepareConfig(size))
        predict(scan, run, tmp_path / "plain")
        predict(scan, run, tmp_path / "both", mirror=True)
        np.testing.assert_array_equal(stored(tmp_path / "plain/mask.nii.gz"), stored(tmp_path / "both/mask.nii.gz"))


def test_progress_counts_a_mirror_image_as_a_slice_of_its_own(scan: Path, runs: Callable[..., Run]) -> None:
    """The bar would else stand at the end while half of the work is to be done. The lung model is asked plainly."""
    calls: list[tuple[int, int]] = []
    predict(
        scan, [runs("a"), runs("b", 100)], lungs=lung_run(runs), mirror=True,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    total = SLICES * (1 + 2 * 2)
    assert calls == [(done, total) for done in range(0, total + 1, SLICES)]


def test_progress_reaches_its_end_where_slices_show_no_lung(
    checkpoints_folder: Path, tmp_path: Path, runs: Callable[..., Run]
) -> None:
    voxels = np.concatenate([np.full((SIDE, SIDE, 20), 40, np.int16), chest()], axis=2)
    scan = save_scan(tmp_path / "long.nii.gz", voxels)
    run = lopsided(checkpoints_folder, "lopsided", PrepareConfig(SIZE, region="lungs"))
    calls: list[tuple[int, int]] = []
    tell = lambda done, total: calls.append((done, total))  # noqa: E731
    predict(scan, run, lungs=lung_run(runs), mirror=True, progress=tell)
    assert calls[-1] == (3 * (20 + SLICES), 3 * (20 + SLICES))


def test_known_answers_of_one_kind_are_never_taken_for_the_other(
    checkpoints_folder: Path, scan: Path, runs: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the model's own nor those of a copy of it; and each is asked only once."""
    prepare = PrepareConfig(SIZE)
    one, copy = (lopsided(checkpoints_folder, id, prepare) for id in ("one", "copy"))
    asked: list[str] = []
    init = Segmenter.__init__
    monkeypatch.setattr(
        Segmenter, "__init__", lambda self, run, **how: (asked.append(run.id), init(self, run, **how))[1]
    )
    read, lungs, known = read_scan(scan), lung_run(runs), {}

    def left(mirror: bool) -> list[str]:
        return [question.run.id for question in unanswered([one, copy], lungs, mirror, known)]

    assert left(False) == left(True) == ["lung", "one"]
    plain = ask(read, [one], Spool(), lungs, known)
    assert (left(False), left(True)) == ([], ["one"])
    both = ask(read, [one, copy], Spool(), lungs, known, mirror=True)
    assert left(False) == left(True) == []
    again = ask(read, [copy, one], Spool(), lungs, known)
    assert asked == ["lung", "one", "one"]
    np.testing.assert_array_equal(again.models[0].values, plain.models[0].values)
    np.testing.assert_array_equal(both.models[0].values, both.models[1].values)
    assert (both.models[0].values != plain.models[0].values).any()
    assert [answer.mirror for answer in (*again.models, *both.models)] == [False, False, True, True]


def test_every_file_says_that_mirror_images_were_asked(tmp_path: Path, scan: Path, runs: Callable[..., Run]) -> None:
    words = "Each slice was shown mirrored, too"
    for mirror in (False, True):
        prediction = predict(scan, [runs("a"), runs("b", 100)], tmp_path / "out", mirror=mirror)
        report = read_json(tmp_path / "out" / "report.json", Report)
        assert report == prediction.report
        assert report.mirror == mirror
        assert (words in (tmp_path / "out" / "report.html").read_text()) == mirror
        table = list(csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines()))
        assert {row["mirror"] for row in table} == {"yes" if mirror else "no"}
        assert report.algorithm == "covseg, mean of 2 models" + ", mirror images too" * mirror


def test_a_long_name_does_not_push_the_mirror_images_out_of_a_dicom_file(scan: Path, runs: Callable[..., Run]) -> None:
    """Its names have 64 characters."""
    report = predict(scan, runs("a" * 70), mirror=True).report
    assert report.algorithm == "a" * 45 + ", mirror images too"
    assert len(report.algorithm) == 64


def test_models_of_which_some_were_asked_mirror_images_are_refused(scan: Path, runs: Callable[..., Run]) -> None:
    """One report could not tell which; the page never mixes them."""
    read, models = read_scan(scan), [runs("a"), runs("b", 100)]
    plain, both = ask(read, models[:1], Spool()), ask(read, models[1:], Spool(), mirror=True)
    with pytest.raises(SettingError, match="^mirror: asked of b, not of a; expected all models asked alike$"):
        predict_at(read, Answers((*plain.models, *both.models)))
