"""Inference. What a user loses otherwise: masks of the wrong slice, a machine out of memory, a dashboard that cannot be
stopped, an empty mask from a broken model, which looks like a healthy patient."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.errors import Cancelled, RunError
from covseg_core.files import write_json
from covseg_core.prediction import inference
from covseg_core.prediction.inference import Segmenter, usable_cores
from covseg_core.runs import Run

SIZE = 16
SMALL = PrepareConfig(size=SIZE)


def save_model(
    path: Path, shape: tuple[Any, ...] = ("N", SIZE, SIZE, 1), kind: int = TensorProto.UINT8, scale: float = 1 / 255
) -> Path:
    """A model with a known answer: the probability is `scale` times the grey value."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["grey", "scale"], ["masks"]),
        ],
        "grey",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, shape)],
        [helper.make_tensor("scale", TensorProto.FLOAT, [], [scale])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    found = Segmenter(save_model(tmp_path / "model.onnx"), SMALL)
    found.batch = 4
    return found


def random_images(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9])
def test_every_slice_gets_its_own_answer(segmenter: Segmenter, count: int) -> None:
    """Whatever is left over from the batches: a mask must not land on its neighbour, nor be missing."""
    images = random_images(count)
    probabilities = segmenter.probabilities(images)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, images / 255, rtol=1e-6)


def test_slices_may_come_from_the_cache_or_a_larger_array(segmenter: Segmenter, tmp_path: Path) -> None:
    images = random_images(6)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(segmenter.probabilities(mapped), segmenter.probabilities(images))
    np.testing.assert_array_equal(segmenter.probabilities(images[::-2]), segmenter.probabilities(images)[::-2])


@pytest.mark.parametrize("cores", [1, 2, 64])
@pytest.mark.parametrize("size", [16, 128, 256, 512, 1024])
def test_memory_grows_neither_with_the_slices_nor_with_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, cores: int
) -> None:
    """The network's activations take kilobytes a pixel of what is computed at the same time."""
    monkeypatch.setattr(inference, "usable_cores", lambda: cores)
    segmenter = Segmenter(save_model(tmp_path / "model.onnx", ("N", size, size, 1)), PrepareConfig(size=size))
    assert 1 <= segmenter.workers <= cores
    assert segmenter.workers * segmenter.batch * size**2 <= max(inference.PIXELS, size**2)


def test_after_an_error_nothing_more_is_computed(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was left, or Ctrl-C: the other 600 slices would keep the machine busy for minutes."""
    answered = []

    def answer(images: np.ndarray) -> np.ndarray:
        answered.append(len(images))
        time.sleep(0.01)
        return images.astype(np.float32)

    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(segmenter, "_answer", answer)
    with pytest.raises(KeyboardInterrupt):
        segmenter.probabilities(random_images(400), progress)
    assert len(answered) < 50, "of 100 batches"


def test_progress_ends_at_the_number_of_slices(segmenter: Segmenter) -> None:
    seen: list[tuple[int, int]] = []
    segmenter.probabilities(random_images(9), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 9), (8, 9), (9, 9)]


def test_cancel_ends_it_at_the_next_batch(segmenter: Segmenter) -> None:
    cancel = threading.Event()
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        cancel.set()

    with pytest.raises(Cancelled):
        segmenter.probabilities(random_images(9), progress, cancel)
    assert seen == [4]


def test_threads_can_share_a_segmenter(segmenter: Segmenter) -> None:
    """The dashboard has one for all its visitors."""
    stacks = [random_images(count) for count in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        for images, probabilities in zip(stacks, pool.map(segmenter.probabilities, stacks), strict=True):
            np.testing.assert_allclose(probabilities, images / 255, rtol=1e-6)


def test_a_run_knows_how_its_slices_are_prepared(tmp_path: Path) -> None:
    run = Run(tmp_path / "a-run")
    prepare = PrepareConfig(size=32, window=(-1000.0, 0.0), resize="thesis")
    config = RunConfig("a-run", "e", "d", "f", "dice", "quick", "2026-01-01", prepare=prepare)
    write_json(run.folder / "config.json", config)
    save_model(run.onnx, ("N", 32, 32, 1))
    assert Segmenter(run).prepare == prepare
    assert Segmenter(run).probabilities(random_images(2, 32)).shape == (2, 32, 32)


def test_a_run_without_a_model_says_how_to_get_one(tmp_path: Path) -> None:
    run = Run(tmp_path / "a-run")
    write_json(run.folder / "config.json", RunConfig("a-run", "e", "d", "f", "dice", "quick", "2026-01-01"))
    with pytest.raises(RunError, match=r"a-run: has no model\.onnx; .*covseg export a-run"):
        Segmenter(run)


@pytest.mark.parametrize("content", [b"", b"not a model " * 9, None])
def test_a_damaged_model_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = save_model(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(RunError, match=r"model\.onnx: not readable.*expected a model.onnx as covseg"):
        Segmenter(path, SMALL)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (("N", 32, 32, 1), TensorProto.UINT8),
        (("N", SIZE, 32, 1), TensorProto.UINT8),
        (("N", SIZE, SIZE, 3), TensorProto.UINT8),
        (("N", SIZE, SIZE), TensorProto.UINT8),
        ((8, SIZE, SIZE, 1), TensorProto.UINT8),
        (("N", SIZE, SIZE, 1), TensorProto.FLOAT),
    ],
)
def test_a_model_for_other_slices_is_refused(tmp_path: Path, shape: tuple[Any, ...], kind: int) -> None:
    """Before the scan is read, and not by a wrong mask."""
    with pytest.raises(RunError, match=r"expected one input \(N, 16, 16, 1\) uint8"):
        Segmenter(save_model(tmp_path / "model.onnx", shape, kind), SMALL)


def test_nan_is_an_error_and_not_an_empty_mask(tmp_path: Path) -> None:
    """NaN >= 0.5 is false everywhere: a diverged model would find every patient healthy."""
    broken = Segmenter(save_model(tmp_path / "model.onnx", scale=float("nan")), SMALL)
    with pytest.raises(RunError, match="NaN"):
        broken.probabilities(random_images(2))


@pytest.mark.parametrize(
    "images", [np.zeros((2, 32, 32), np.uint8), np.zeros((2, SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.uint8)]
)
def test_unprepared_slices_are_a_bug_of_the_caller(segmenter: Segmenter, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        segmenter.probabilities(images)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux only")
def test_cores_that_others_were_given_are_left_alone() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from covseg_core.prediction.inference import usable_cores; print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "cores"), [("250000 100000", 2), ("20000 100000", 1), ("9900000 100000", 8), ("max 100000", 8)]
)
def test_a_containers_quota_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    """A container with 2 of 64 cores would start 64 threads and be paused most of the time."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(inference, "QUOTA", tmp_path / "cpu.max")
    assert usable_cores() == 8
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores() == cores
