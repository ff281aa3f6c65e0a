"""Which model it was: what a report says of a run, and what answers of models are kept by."""

from __future__ import annotations

from dataclasses import dataclass

from covseg_core.config import Metric, PrepareConfig
from covseg_core.files import cached_sha256
from covseg_core.runs import Run


@dataclass(frozen=True)
class ModelInfo:
    """One model."""

    run: str
    metric: Metric
    preset: str
    dataset: str
    """The one it was trained on."""
    prepare: PrepareConfig
    sha256: str
    """Of `model.onnx`."""

    @property
    def twin(self) -> tuple[str, PrepareConfig]:
        """Equal for models that give the same answer: the same weights on slices of the same kind."""
        return self.sha256, self.prepare


def model_info(run: Run) -> ModelInfo:
    """Describe the model of a run."""
    config = run.config
    return ModelInfo(run.id, config.metric, config.preset, config.dataset, config.prepare, cached_sha256(run.onnx))
