"""MLflow has what the run has: read back by MLflow itself, where it is installed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from fakeruns import epoch_row

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError
from covseg_core.export.mlflow_runs import log_run
from covseg_core.export.model_card import model_card
from covseg_core.files import sha256_file, write_json
from covseg_core.runs import Run, create_run
from covseg_core.runs.labels import edit_labels


@pytest.fixture
def run() -> Run:
    config = RunConfig("one", "first", "ct20", "f" * 64, "dice", "quick", "2026-01-02T03:04:05+00:00")
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    run.write_status(dataclasses.replace(run.status, state="finished"))
    run.write_history([epoch_row(epoch) for epoch in range(1, 151)])
    run.onnx.write_bytes(b"a model")
    scores = {"version": 1, "model_sha256": sha256_file(run.onnx), "model": {"pooled": {"dice": 0.75, "hd95": None}}}
    write_json(run.evaluation, scores)
    edit_labels([run], name="Larger slices", note="for the talk", add=["best", "talk"])
    return run


@pytest.mark.filterwarnings("default")  # of MLflow's own
def test_mlflow_reads_settings_curves_scores_tags_card_and_model(run: Run, tmp_path: Path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the optional extra: pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_run(log_run(run, uri))
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "Larger slices"
    assert found.data.params["prepare.size"] == "256"
    assert (found.data.params["metric"], found.data.params["dataset"]) == ("dice", "ct20")
    assert found.data.tags["covseg.tags"] == "best, talk"
    assert found.data.tags["mlflow.note.content"] == "for the talk"
    assert found.data.metrics["test_dice"] == 0.75
    assert "test_hd95" not in found.data.metrics
    curve = client.get_metric_history(found.info.run_id, "val_dice_foreground")
    assert [point.step for point in curve] == list(range(1, 151))
    assert [point.value for point in curve] == [row["val_dice_foreground"] for row in run.history()]
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {
        "model.onnx", "config.json", "model_card.md",
    }  # fmt: skip
    folder = Path(client.download_artifacts(found.info.run_id, "", str(tmp_path)))
    assert (folder / "model.onnx").read_bytes() == b"a model"
    assert (folder / "model_card.md").read_text() == model_card(run)
    second = client.get_run(log_run(run, uri))
    assert second.info.experiment_id == found.info.experiment_id, "MLflow compares within an experiment"


def test_without_mlflow_the_error_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(CovsegError, match="mlflow: is not installed; expected pip install mlflow-skinny"):
        log_run(run)


def test_a_card_has_scores_settings_and_what_it_is_not_for(run: Run) -> None:
    card = model_card(run)
    assert card.startswith("# Larger slices\n\nfor the talk\n")
    assert "| `dice` | 0.7500 |" in card
    assert "hd95" not in card
    assert "| `prepare.size` | 256 |" in card
    assert "not for diagnosis" in card
    run.evaluation.unlink()
    assert "It has not been scored" in model_card(run)
    (run.folder / "README.md").write_text("its own")
    assert model_card(run) == "its own"
