"""Whether a run's model may be asked in bfloat16, at half the time: `bfloat16.json` in the run's folder.

Some processors (Intel since 2020, AMD since 2022) compute with 16-bit numbers of 8 significant bits. Single
probabilities then differ a little, so that a model is only asked so if its masks and its score on its own validation
slices stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from covseg_core.errors import CovsegError, RunError
from covseg_core.files import cached_sha256, read_json
from covseg_core.runs import Run

FILE = "bfloat16.json"
VERSION = 1
AGREEMENT, CHANGE = 0.995, 0.002
"""At least so much Dice between the masks of both precisions, and at most so much change of the score."""


@dataclass(frozen=True)
class Bfloat16Check:
    """How a model in bfloat16 compares with itself in float32."""

    version: int
    created: str
    """ISO 8601, UTC."""
    model_sha256: str
    """Of the `model.onnx` that was compared."""
    slices: int
    """Of the validation part."""
    threshold: float
    """At which masks were made: the run's operating point, or 0.5."""
    agreement: float
    """Dice of the two masks, over all slices together."""
    score: float
    """Dice of the mask in float32 against the truth, over all slices together."""
    score_bfloat16: float
    largest_difference: float
    """Of a probability."""

    @property
    def passed(self) -> bool:
        return self.agreement >= AGREEMENT and abs(self.score - self.score_bfloat16) <= CHANGE

    @property
    def words(self) -> str:
        """`masks agree to 0.9984, Dice 0.7918 in both`."""
        change = f"Dice {self.score:.4f} in float32 and {self.score_bfloat16:.4f} in bfloat16"
        return f"masks agree to {self.agreement:.4f}, {change}, on {self.slices} validation slices"


def read_check(run: Run) -> Bfloat16Check | None:
    """The check of a run's present model; None if there is none."""
    try:
        check = read_json(run.folder / FILE, Bfloat16Check)
        return check if (check.version, check.model_sha256) == (VERSION, cached_sha256(run.onnx)) else None
    except (CovsegError, OSError):
        return None


def require_check(run: Run) -> Bfloat16Check:
    """The same, for who wants to ask the model in bfloat16.

    Raises
    ------
    RunError : there is none, or the model changes too much
    """
    check = read_check(run)
    if check is None:
        raise RunError(run.id, "was not checked in bfloat16", f"`covseg bfloat16 {run.id}`, or float32")
    if not check.passed:
        expected = f"agreement of {AGREEMENT} and a change of at most {CHANGE}, or float32"
        raise RunError(run.id, f"changes too much in bfloat16: {check.words}", expected)
    return check
