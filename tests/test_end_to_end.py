"""The main job on real scans: if this fails, the tool does not do what it is for. With phantoms: test_tutorial.py."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import pytest

from covseg_core.data.library.importing import import_dataset
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.prediction.predict import predict
from covseg_core.runs import jobs

CASES = ["coronacases_001", "coronacases_003", "coronacases_005", "coronacases_006", "radiopaedia_10_85902_3"]
CASES += ["radiopaedia_7_85703_0"]


@pytest.mark.training
@pytest.mark.timeout(1500)  # on one busy core it takes ten minutes
def test_real_scans_to_a_model_that_beats_every_baseline(real_data: Path, tmp_path: Path):
    """On patients it has not seen, after a training of half a minute."""
    import_dataset("ct20", [real_data / "ct20" / case for case in CASES])
    [run] = jobs.train("ct20", ["dice"], size=64, filters=8, batch=4, epochs=5)
    jobs.wait([run])
    assert run.status.state == "finished", run.log.read_text()
    [evaluation] = evaluate_runs([run]).evaluations
    best_baseline = max(scores.pooled["dice"] for scores in evaluation.baselines)
    assert evaluation.model.pooled["dice"] > best_baseline, evaluation.model.pooled
    assert evaluation.patients >= 1
    assert not evaluation.spacing_known, "the sample's spacing is a placeholder: no mL may be quoted"

    scan = real_data / "ct20" / "coronacases_004" / "ct.nii.gz"
    prediction = predict(scan, [run], tmp_path / "out")
    assert prediction.mask.shape == (120, 256, 256)
    assert nib.load(tmp_path / "out" / "mask.nii.gz").shape == nib.load(scan).shape
