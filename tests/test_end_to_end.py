"""The main job, from files to a mask of a new scan: if this fails, the tool does not do what it is for."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.library.importing import import_dataset, import_sample
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.prediction.predict import predict
from covseg_core.runs import Run, jobs
from covseg_core.runs.training_data import read_training_data


def _finished(runs: list[Run]) -> list[Run]:
    jobs.wait(runs)
    for run in runs:
        assert run.status.state == "finished", run.log.read_text()
    return runs


@pytest.mark.training
@pytest.mark.timeout(1500)  # on one busy core it takes ten minutes
def test_sample_data_to_three_models_to_the_mask_of_a_new_scan(tmp_path: Path):
    """The models must have learned something: better than nothing and than all of the lung, on unseen patients."""
    import_sample("sample", scans=8, size=64)
    runs = _finished(jobs.train("sample", size=64))
    comparison = evaluate_runs(runs)
    best_baseline = max(scores.pooled["dice"] for scores in comparison.baselines if scores.name != "threshold")
    dice = {evaluation.metric: evaluation.model.pooled["dice"] for evaluation in comparison.evaluations}
    assert dice["dice"] > best_baseline + 0.1, dice
    assert not comparison.leaky

    dataset = load_dataset("sample")
    [case_id, *_] = runs[0].split.test
    scan = dataset.path(dataset.case(case_id), "scan")
    predict(scan, runs, tmp_path / "out")
    mask, ct = nib.load(tmp_path / "out" / "mask.nii.gz"), nib.load(scan)
    assert mask.shape == ct.shape
    assert np.array_equal(mask.affine, ct.affine)
    truth = np.asarray(nib.load(dataset.path(dataset.case(case_id), "infection")).dataobj) > 0
    predicted = np.asarray(mask.dataobj) > 0
    assert 2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()) > 0.2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    data = read_training_data(runs[0])
    assert data is not None
    assert data.scans == len(runs[0].split.train), "without it, nothing can be called unusual"
    assert not any("unlike" in warning for warning in report["warnings"]), "a scan of the same kind is not unusual"
    assert [model["run"] for model in report["models"]] == [run.id for run in runs]


@pytest.mark.training
@pytest.mark.timeout(1500)  # on one busy core it takes ten minutes
def test_real_scans_to_a_model_that_beats_every_baseline(real_data: Path, tmp_path: Path):
    """On patients it has not seen, after a training of a minute or two."""
    import_dataset("ct20", [real_data / "ct20"])
    [run] = _finished(jobs.train("ct20", ["dice"], size=64, epochs=8))
    [evaluation] = evaluate_runs([run]).evaluations
    best_baseline = max(scores.pooled["dice"] for scores in evaluation.baselines)
    assert evaluation.model.pooled["dice"] > best_baseline, evaluation.model.pooled
    assert evaluation.patients >= 1
    assert not evaluation.spacing_known, "the sample's spacing is a placeholder: no mL may be quoted"

    scan = real_data / "ct20" / "coronacases_004" / "ct.nii.gz"
    prediction = predict(scan, [run], tmp_path / "out")
    assert prediction.mask.shape == (120, 256, 256)
    assert nib.load(tmp_path / "out" / "mask.nii.gz").shape == nib.load(scan).shape
