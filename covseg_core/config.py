"""Configuration of a run: frozen dataclasses that go to `config.json` and back, and the presets as rows of a table.

`docs/reference/settings.md` explains every field; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from covseg_core.errors import SettingError

Metric = Literal["accuracy", "iou", "dice", "combined"]
Measure = Literal["accuracy", "iou", "dice"]
Target = Literal["infection", "lung"]
SplitKind = Literal["patient", "slice"]
Resize = Literal["area", "thesis"]
Region = Literal["slice", "lungs"]
Schedule = Literal["constant", "cosine", "plateau"]


@dataclass(frozen=True)
class MetricRow:
    """What a model is compiled with.

    Every model *reports* all scores, since a curve costs nothing and only a common yardstick compares.
    """

    name: Metric
    """In settings and ids."""
    label: str
    """For people."""
    word: str
    """The same in a sentence: `the accuracy model`."""
    score: str
    """By which the best epoch is picked, as `history.csv` names it; see docs/reference/metrics.md."""
    score_label: str
    measure: Measure
    """The same score as an evaluation names it."""
    loss: str
    """What is minimised. Accuracy and IoU have the same: from one seed they train alike, and differ only in the epoch
    that is kept. With several seeds each metric has its own, see `training_seed`."""
    loss_label: str


METRICS: dict[Metric, MetricRow] = {
    row.name: row
    for row in (
        MetricRow(
            "accuracy", "Accuracy", "accuracy",
            score="pixel_accuracy", score_label="Pixel accuracy", measure="accuracy",
            loss="binary_crossentropy", loss_label="Binary cross-entropy",
        ),
        MetricRow(
            "iou", "IoU", "IoU",
            score="iou_foreground", score_label="IoU (foreground)", measure="iou",
            loss="binary_crossentropy", loss_label="Binary cross-entropy",
        ),
        MetricRow(
            "dice", "Dice", "Dice",
            score="dice_foreground", score_label="Dice (foreground)", measure="dice",
            loss="soft_dice_loss", loss_label="Soft Dice",
        ),
        MetricRow(
            "combined", "Dice + cross-entropy", "combined",
            score="dice_foreground", score_label="Dice (foreground)", measure="dice",
            loss="combined_loss", loss_label="Soft Dice + binary cross-entropy",
        ),
    )
}  # fmt: skip
"""The three experiments of the thesis, in its order, and what trains best."""
THESIS: tuple[Measure, ...] = ("accuracy", "iou", "dice")
"""Trained where all three are asked for; the three scores that there are have their names."""


MOST_SEEDS = 99
"""Trainings of one metric with seeds of their own."""


def _check(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise SettingError(name, repr(value), expected)


@dataclass(frozen=True)
class PrepareConfig:
    """From volume to slices: everything that changes a cached pixel."""

    size: int = 256
    """Side of the square slices, in pixels; a multiple of 16."""
    window: tuple[float, float] = (-1250.0, 250.0)
    """HU range that is mapped to 0..255; scans that are already 0..255 are left alone."""
    resize: Resize = "area"
    """`area`: pad to a physical square, area-average images, nearest neighbour for masks. `thesis`: take every second
    pixel, then `skimage.transform.resize` without padding."""
    region: Region = "slice"
    """`lungs`: cut to the box of the scan's lungs, and nothing outside of them is the target. `slice`: all of it."""
    context: int = 0
    """Neighbouring slices on each side that the network sees as further channels."""

    @property
    def channels(self) -> int:
        """Of the network's input: the slice and its neighbours."""
        return 2 * self.context + 1

    def __post_init__(self) -> None:
        _check("size", self.size, 16 <= self.size <= 1024 and self.size % 16 == 0, "a multiple of 16 from 16 to 1024")
        _check("window", self.window, self.window[0] < self.window[1], "two HU values, the lower first")
        fits = self.region == "slice" or self.resize == "area"
        _check("region", self.region, fits, "`slice` with the thesis's resize, which knows no box")
        _check("context", self.context, 0 <= self.context <= 5, "0 to 5 slices on each side")


@dataclass(frozen=True)
class SplitConfig:
    """Which slices train, validate and test."""

    kind: SplitKind = "patient"
    """`patient`: all slices of one person stay on one side. `slice`: as in the thesis; neighbouring slices leak."""
    fractions: tuple[float, float, float] = (0.7, 0.2, 0.1)
    """Shares of training, validation and test."""
    seed: int = 0
    """Which of the possible splits."""
    folds: int = 0
    """Cross-validation: into how many parts the patients (or slices) are dealt, each tested once. 0: a single split."""
    fold: int = 0
    """Which of them is tested, from 1; 0 for a single split."""
    leave_out: tuple[str, ...] = ()
    """Ids of cases that are in no part, such as those whose masks were rejected in a review."""

    def __post_init__(self) -> None:
        fits = all(0 < part < 1 for part in self.fractions) and abs(sum(self.fractions) - 1) < 1e-6
        _check("fractions", self.fractions, fits, "three shares above 0 that add up to 1")
        _check("folds", self.folds, self.folds == 0 or 2 <= self.folds <= 100, "2 to 100, or 0 for a single split")
        _check("fold", self.fold, min(self.folds, 1) <= self.fold <= self.folds, "1 to the number of folds")


@dataclass(frozen=True)
class ModelConfig:
    """The U-Net."""

    filters: int = 32
    """Channels of the first block; doubled at each of the four levels down."""
    normalization: Literal["none", "batch"] = "none"
    """Batch normalisation after each 3x3 convolution, or none, as in the thesis."""
    informed_bias: bool = False
    """Start the output bias at the log odds of a positive pixel, which saves the epochs of all-background."""

    def __post_init__(self) -> None:
        _check("filters", self.filters, 1 <= self.filters <= 256, "1 to 256")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training slices. All zero means none."""

    flip: bool = False
    """Mirror left and right."""
    shift: float = 0.0
    """Largest shift, as a share of the side."""
    scale: float = 0.0
    """Largest change of scale: 0.1 means 0.9 to 1.1."""
    rotate: float = 0.0
    """Largest rotation, in degrees."""
    contrast: float = 0.0
    """Largest change of contrast: 0.1 means 0.9 to 1.1."""
    brightness: float = 0.0
    """Largest change of brightness, as a share of the 0..255 range."""
    noise: float = 0.0
    """Largest standard deviation of added noise, as a share of the 0..255 range."""
    gamma: float = 0.0
    """Largest logarithm of a power that grey values are raised to: 0.3 means powers from 0.74 to 1.35."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, in pixels."""


@dataclass(frozen=True)
class TrainConfig:
    """How the U-Net is fitted."""

    epochs: int = 100
    """Passes over the training slices."""
    batch: int = 8
    """Slices a step, over all devices together."""
    learning_rate: float = 1e-3
    """Of Adam, at the start."""
    scale_batch: bool = False
    """On a GPU, take a larger batch and learning rate, by the rule of `covseg_core.runs.pace`."""
    schedule: Schedule = "constant"
    """`cosine`: to 1 % of it at the last epoch. `plateau`: halved after 5 epochs without a better validation score."""
    patience: int = 0
    """Stop after this many epochs without a better validation score; 0 never stops early."""
    empty_share: float = 1.0
    """Share of the training slices without any target pixel that is kept."""
    balance: float = 0.0
    """How far patients count alike in an epoch. 0: every slice once. 1: as many slices of each patient, drawn with
    replacement; between: in proportion to the patient's number of slices to the power of 1 - balance."""
    precision: Literal["auto", "float32", "mixed"] = "auto"
    """`auto`: mixed precision on a GPU, float32 on a CPU."""
    seed: int = 0
    """Of the first weights, the shuffling and the augmentation."""
    seeds: int = 0
    """How many trainings of this metric there are, alike but for their seed. 0: this one alone."""
    seed_number: int = 0
    """Which of them this is, from 1; 0 for one alone."""
    ema: float = 0.0
    """Share of the past in a moving average of the weights, updated every step. The average is validated, kept and
    predicts. 0: the weights themselves."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def seed_suffix(self) -> str:
        """What an id ends in: `-seed2of5`; empty for one alone."""
        return f"-seed{self.seed_number}of{self.seeds}" if self.seeds else ""

    def __post_init__(self) -> None:
        _check("epochs", self.epochs, 1 <= self.epochs <= 100_000, "1 to 100000")
        _check("batch", self.batch, 1 <= self.batch <= 4096, "1 to 4096")
        _check("learning_rate", self.learning_rate, 0 < self.learning_rate < 10, "above 0 and below 10")
        _check("empty_share", self.empty_share, 0 <= self.empty_share <= 1, "0 to 1")
        _check("balance", self.balance, 0 <= self.balance <= 1, "0 to 1")
        _check("patience", self.patience, self.patience >= 0, "0 or more")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295")
        fits = self.seeds == 0 or 2 <= self.seeds <= MOST_SEEDS
        _check("seeds", self.seeds, fits, f"2 to {MOST_SEEDS}, or 0 for one training")
        fits = min(self.seeds, 1) <= self.seed_number <= self.seeds
        _check("seed_number", self.seed_number, fits, "1 to the number of seeds")
        _check("ema", self.ema, 0 <= self.ema < 1, "0 to below 1")


@dataclass(frozen=True)
class RunConfig:
    """Everything needed to repeat a run; written once, when the run is created."""

    id: str
    """Name of the run's folder."""
    experiment: str
    """Shared by the runs that differ only in their metric, in the fold that they test, and in the seed of training."""
    dataset: str
    fingerprint: str
    """SHA-256 over the dataset's files and labels when the run was created."""
    metric: Metric
    preset: str
    created: str
    """ISO 8601, UTC, with microseconds: the queue's order."""
    target: Target = "infection"
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    revision: int = 1
    """Of the dataset; 1 in runs of versions without revisions."""
    parent: str = ""
    """The run whose best weights it started from; empty for new weights."""
    parent_data: str = ""
    """What the parent was trained on, with its revision: `NAME@1`."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of covseg, Python and the packages that change results."""

    @property
    def data(self) -> str:
        """The dataset and its revision, as `load_dataset` takes them: `NAME@3`."""
        return f"{self.dataset}@{self.revision}"

    def __post_init__(self) -> None:
        fits = self.target == "infection" or self.prepare.region == "slice"
        _check("region", self.prepare.region, fits, "`slice` for a model that looks for the lungs itself")


@dataclass(frozen=True)
class Preset:
    """A named starting point for the settings."""

    description: str
    prepare: PrepareConfig
    model: ModelConfig
    train: TrainConfig
    epochs: dict[Metric, int]
    """Epochs for each metric, since the thesis trains the Dice model longer."""


AUGMENTATIONS: dict[str, AugmentConfig] = {
    "none": AugmentConfig(),
    "light": AugmentConfig(flip=True, shift=0.06, scale=0.1, contrast=0.15, brightness=0.1),
    "full": AugmentConfig(
        flip=True, shift=0.1, scale=0.2, rotate=10.0, contrast=0.25, brightness=0.15, noise=0.03,
    ),
    "strong": AugmentConfig(
        flip=True, shift=0.12, scale=0.3, rotate=12.0, contrast=0.35, brightness=0.1, noise=0.04, gamma=0.35, blur=0.9,
    ),
}  # fmt: skip
"""What can be chosen by name; each but the first is that of a preset."""

PRESETS: dict[str, Preset] = {
    "quick": Preset(
        "Three models on 500 slices in about ten minutes on two CPU cores: to try things out.",
        PrepareConfig(size=128),
        ModelConfig(filters=16, normalization="batch", informed_bias=True),
        TrainConfig(
            batch=8,
            scale_batch=True,
            learning_rate=2e-3,
            schedule="cosine",
            empty_share=0.5,
            augment=AUGMENTATIONS["light"],
        ),
        {"accuracy": 16, "iou": 16, "dice": 16, "combined": 16},
    ),
    "standard": Preset(
        "What to use for results: augmentation, early stopping, learning-rate schedule. Wants a GPU.",
        PrepareConfig(size=256),
        ModelConfig(filters=16, normalization="batch", informed_bias=True),
        TrainConfig(batch=8, scale_batch=True, schedule="plateau", patience=20, augment=AUGMENTATIONS["full"]),
        {"accuracy": 100, "iou": 100, "dice": 100, "combined": 100},
    ),
    "robust": Preset(
        "For scans from elsewhere: strong augmentation and averaged weights, as the shipped models had them. Twenty "
        "minutes a model on two CPU cores.",
        PrepareConfig(size=160),
        ModelConfig(filters=12, normalization="batch", informed_bias=True),
        TrainConfig(
            batch=8,
            scale_batch=True,
            learning_rate=2e-3,
            schedule="cosine",
            balance=0.5,
            ema=0.99,
            augment=AUGMENTATIONS["strong"],
        ),
        {"accuracy": 24, "iou": 24, "dice": 24, "combined": 24},
    ),
    "paper": Preset(
        "The thesis's setting: 7.8 million parameters, no augmentation, its resize. Wants a GPU.",
        PrepareConfig(size=256, resize="thesis"),
        ModelConfig(filters=32),
        TrainConfig(batch=8, scale_batch=True),
        {"accuracy": 100, "iou": 100, "dice": 250, "combined": 250},
    ),
}


def training_seed(seed: int, metric: Metric, number: int) -> int:
    """The seed of one of several trainings of a metric; no other has the same, be it of this `seed` or another.

    Parameters
    ----------
    seed : as the user gave it
    number : which of the trainings, from 1 to `MOST_SEEDS`

    >>> [training_seed(0, metric, 2) for metric in METRICS], training_seed(3, "accuracy", 1)
    ([2, 102, 202, 302], 3001)
    """
    return 1000 * seed + 100 * list(METRICS).index(metric) + number


def preset(name: str) -> Preset:
    """Look up a preset; raises `SettingError` for an unknown name."""
    if name not in PRESETS:
        raise SettingError("preset", repr(name), ", ".join(PRESETS))
    return PRESETS[name]
