"""A training on the lungs alone, with neighbours and averaged weights, through all that is done with a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chests import grey
from known import save_between

from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import prepared
from covseg_core.data.slices.lungs import near_lungs
from covseg_core.data.slices.slices import to_native
from covseg_core.evaluation.stored_predictions.operating_point_search import choose_point
from covseg_core.evaluation.stored_predictions.predictions import read_predictions
from covseg_core.files import write_json
from covseg_core.prediction.predict import predict
from covseg_core.prediction.probabilities import grid_of
from covseg_core.prediction.scan import read_scan
from covseg_core.runs import Run, jobs
from covseg_core.runs.lung_model import LUNGS
from covseg_core.runs.operating_point import read_point
from covseg_core.runs.previews import read_preview_slices


@pytest.fixture
def lung_model(checkpoints_folder: Path) -> Run:
    """The one that comes with covseg, of the tests: lung is what is as dark as lung."""
    run = Run(checkpoints_folder / "pretrained" / LUNGS)
    config = RunConfig(
        LUNGS, "e", "d", "f", "dice", "quick", "2026-01-01", target="lung", prepare=PrepareConfig(size=48)
    )
    write_json(run.folder / "config.json", config)
    save_between(run.onnx, 48, grey(-900), grey(-600))
    return run


@pytest.mark.training
@pytest.mark.timeout(1500)  # on one busy core a worker alone takes a minute
def test_a_model_of_the_lungs_alone_is_trained_scored_and_used(
    small_phantoms: Callable[..., Dataset], lung_model: Run, tmp_path: Path
) -> None:
    dataset = small_phantoms(3)
    settings = {"size": 32, "filters": 2, "batch": 4, "region": "lungs", "context": 1, "ema": 0.9}
    [run] = jobs.train("phantoms", ["combined"], epochs=2, **settings)  # type: ignore[arg-type]
    jobs.wait([run])
    assert run.status.state == "finished", run.log.read_text()
    prepare = run.config.prepare
    assert (prepare.region, prepare.context, prepare.channels, run.config.train.ema) == ("lungs", 1, 3, 0.9)
    assert read_preview_slices(run).images.shape[1:] == (32, 32)

    stored = read_predictions(run)
    asked = 0
    for id, rows in stored.rows.items():
        near = prepared(dataset, dataset.case(id), prepare, "near_lungs")
        for z, row in rows.items():
            values = stored.values[row]
            assert not values[near[z] == 0].any()
            assert values[near[z] > 0].all(), "an informed guess is never 0"
            asked += near[z].any()
    assert 0 < asked < sum(map(len, stored.rows.values())), "some slices lie beside the lungs"

    point = choose_point(run, few=True)
    assert 0 < point.threshold < 1
    assert read_point(run) == point

    case = dataset.case(next(iter(run.split.test)))
    prediction = predict(dataset.path(case, "scan"), run, tmp_path / "out", threshold=0.001, keep_beyond=True)
    assert prediction.lungs is not None
    grid = grid_of(read_scan(dataset.path(case, "scan")), prepare, prediction.lungs)
    allowed = to_native(near_lungs(prediction.lungs, grid).astype(np.float32), grid)
    assert prediction.mask.any()
    assert not prediction.mask[allowed == 0].any()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["lungs"]["run"] == LUNGS
