"""A full evaluation of three models on 500 slices of 256 px, beside a straightforward loop around MedPy.

The loop scores the masks that the evaluation has predicted, on the scans' own grid: Dice, IoU, HD95 and mean surface
distance of every slice and every scan. The evaluation does more in its time: it reads the scans, runs the models (as
cheap as models can be, a blur and three limits: what is timed is no network) and scores three baselines as well.

    python benchmarks/evaluate.py [--scans 5] [--slices 100]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from medpy.metric import binary
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from covseg_core.config import THESIS, Metric, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.reading.volumes import load_mask
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation.candidate import Candidate
from covseg_core.evaluation.empty_policy import order_change, with_policy
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import score_case
from covseg_core.evaluation.significance.verdict import verdict
from covseg_core.prediction.inference import usable_cores
from covseg_core.runs import Run, create_run

SIZE = 256
BANDS: dict[Metric, tuple[float, float]] = {"accuracy": (90, 150), "iou": (90, 190), "dice": (100, 190)}
"""Grey value from which the models see infection, and the one that must not be near, or it is the chest wall."""
AIR = 52
"""Darker than this, somewhere near, is the air around the body."""
PATIENTS = 60

Masks = list[tuple[np.ndarray, np.ndarray, tuple[float, float, float]]]
"""Truth, prediction, both (Z, Y, X) bool, and spacing (z, y, x) [mm] of a scan."""


def main() -> None:
    """Measure everything in a folder that is removed afterwards, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scans", type=int, default=5)
    arguments.add_argument("--slices", type=int, default=100, help="slices of each scan")
    options = arguments.parse_args()
    slices = options.scans * options.slices
    title = f"{len(THESIS)} models on {slices} slices of {SIZE} px, {usable_cores()} CPU cores"
    table = Table("figure", "measured", "goal", title=title)
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ |= {"COVSEG_DATA": f"{folder}/data", "COVSEG_CHECKPOINTS": f"{folder}/checkpoints"}
        cases = write_sample(Path(folder, "sample"), options.scans, size=SIZE, slices=options.slices)
        dataset = import_dataset("bench", cases, allow_empty=True)
        runs = [make_run(metric) for metric in THESIS]
        masks = [pair for run in runs for pair in predicted(run, dataset)]  # fills the cache of slices, too

        started = time.perf_counter()
        comparison = evaluate_runs(runs, dataset.name)
        ours = time.perf_counter() - started
        measures = measure(dataset, masks)
        loop = medpy_loop(masks)
    table.add_row("MedPy's dc, jc, hd95, assd of every slice and scan", f"{loop:.1f} s", "")
    table.add_row("our measures of the same masks", f"{measures:.1f} s, {loop / measures:.1f} x faster", "")
    table.add_row("whole evaluation", f"{ours:.1f} s, {loop / ours:.1f} x faster", ">= 5 x")
    table.add_section()
    conclusions(table, comparison)
    Console(width=120).print(table)


def make_run(metric: Metric) -> Run:
    """A run with a model that needs next to no time, made from a dataset that is not there."""
    config = RunConfig(
        metric, "bench", "elsewhere", "", metric, "standard", "2026-01-01T00:00:00+00:00", prepare=PrepareConfig(SIZE)
    )
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    shape = ("N", SIZE, SIZE, 1)
    blur = helper.make_tensor("blur", TensorProto.FLOAT, (1, 1, 5, 5), [1 / 25] * 25)
    low, high = BANDS[metric]
    numbers = {"a": -low, "b": high, "air": -AIR, "one": 1, "minus": -1, "huge": 1e6}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in numbers.items()]
    steps = [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["grey"], ["planes"], perm=(0, 3, 1, 2)),
        helper.make_node("Conv", ["planes", "blur"], ["blurred"], pads=(2, 2, 2, 2)),
        helper.make_node("MaxPool", ["blurred"], ["around"], kernel_shape=(7, 7), pads=(3, 3, 3, 3)),
        helper.make_node("Mul", ["blurred", "minus"], ["dark"]),
        helper.make_node("MaxPool", ["dark"], ["darkest"], kernel_shape=(15, 15), pads=(7, 7, 7, 7)),
        *_positive("blurred", "one", "a", "above"),
        *_positive("around", "minus", "b", "below"),
        *_positive("darkest", "minus", "air", "in_body"),
        helper.make_node("Mul", ["above", "below"], ["between"]),
        helper.make_node("Mul", ["between", "in_body"], ["marked"]),
        helper.make_node("Transpose", ["marked"], ["masks"], perm=(0, 2, 3, 1)),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, shape)
    masks = helper.make_tensor_value_info("masks", TensorProto.FLOAT, shape)
    graph = helper.make_graph(steps, "band", [images], [masks], [blur, *constants])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), run.onnx)
    return run


def _positive(of: str, sign: str, offset: str, output: str) -> list[onnx.NodeProto]:
    """1 where `sign` * `of` + `offset` is above 0, else 0, of operators that a model may hold: 1 - max(1 - x, 0)."""
    names, nodes = [of], []
    for kind, *other in (
        ("Mul", sign), ("Add", offset), ("Relu",), ("Mul", "huge"),
        ("Mul", "minus"), ("Add", "one"), ("Relu",), ("Mul", "minus"), ("Add", "one"),
    ):  # fmt: skip
        names.append(f"{output}/{len(names)}")
        nodes.append(helper.make_node(kind, [names[-2], *other], [names[-1]]))
    nodes[-1].output[0] = output
    return nodes


def predicted(run: Run, dataset: Dataset) -> Masks:
    """What the evaluation compares, scan by scan."""
    candidate, found = Candidate(run, dataset), []
    for case in dataset.cases:
        truth = load_mask(dataset.path(case, "infection")).voxels > 0
        found.append((truth, candidate.predict(case, range(case.shape[0])), case.spacing))
    return found


def measure(dataset: Dataset, masks: Masks) -> float:
    """Seconds for all measures of every slice and scan."""
    started = time.perf_counter()
    for number, (truth, prediction, spacing) in enumerate(masks):
        case = dataset.cases[number % len(dataset.cases)]
        score_case(case, range(len(truth)), truth, prediction, spacing, "nan")
    return time.perf_counter() - started


def medpy_loop(masks: Masks) -> float:
    """Seconds for the same slices and scans the way most people would write it."""
    started = time.perf_counter()
    for truth, prediction, spacing in masks:
        for true, marked in zip(truth, prediction, strict=True):
            medpy_scores(true, marked, spacing[1:])
        medpy_scores(truth, prediction, spacing)
    return time.perf_counter() - started


def medpy_scores(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """Nothing where a mask is empty, for there MedPy raises."""
    if not truth.any() or not prediction.any():
        return {}
    return {
        "dice": binary.dc(prediction, truth),
        "iou": binary.jc(prediction, truth),
        "hd95": binary.hd95(prediction, truth, spacing),
        "assd": binary.assd(prediction, truth, spacing),
    }


def conclusions(table: Table, comparison: Comparison) -> None:
    """What follows from stored scores, each as often as somebody turns a knob; the first time loads libraries."""
    comparison = of_patients(comparison, PATIENTS)
    verdict(comparison)
    for name, work in {
        f"verdict on all pairs, {PATIENTS} patients": lambda: verdict(comparison),
        "another policy for empty masks": lambda: with_policy(comparison, "one"),
        "whether it changes an order": lambda: order_change(comparison),
    }.items():
        started = time.perf_counter()
        work()
        table.add_row(name, f"{1000 * (time.perf_counter() - started):.0f} ms", "< 300 ms" if "verdict" in name else "")


def of_patients(comparison: Comparison, patients: int) -> Comparison:
    """The same slices, dealt out to as many people."""

    def dealt(evaluation: Evaluation) -> Evaluation:
        slices = tuple(
            dataclasses.replace(score, patient=f"p{number % patients}")
            for number, score in enumerate(evaluation.model.slices)
        )
        return dataclasses.replace(evaluation, model=dataclasses.replace(evaluation.model, slices=slices))

    return dataclasses.replace(comparison, evaluations=tuple(dealt(one) for one in comparison.evaluations))


if __name__ == "__main__":
    main()
