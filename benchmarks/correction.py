"""What correcting masks is worth: a model of careless masks, and its gain once a reader has corrected some of them.

A dataset is copied, and the masks that are trained and validated on are spoilt as hasty ones are: small lesions are
missing, the others are too wide. A base model learns from them. Then a simulated reader puts the true masks back, case
by case, each time the model is trained on from its weights, and both are scored on the same test patients, whose masks
are true and untouched. The reader takes 15 s for each slice that changes.

    python benchmarks/correction.py [--data DATASET] [--corrected 2 4 8] [--epochs 12] [--size 64] [--filters 8]

Without `--data`, which is a dataset of `COVSEG_DATA`, on phantoms. Takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from covseg_core import paths
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.importing import import_sample
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.data.splitting.split import make_split
from covseg_core.evaluation.studies.correction_gain import measure_gain
from covseg_core.runs import Run, jobs

NAME = "study"
SHARE_MISSED, WIDER = 0.5, 2
"""Of the lesions, the smaller ones are missing; pixels by which the others are too wide."""
MINUTES_A_SLICE = 0.25


def main() -> None:
    """Spoil, train, correct, train on, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", help="a dataset of COVSEG_DATA; without, 20 phantoms")
    arguments.add_argument("--corrected", type=int, nargs="+", default=[2, 4, 8])
    arguments.add_argument("--epochs", type=int, default=12, help="of the base model; later ones take half as many")
    arguments.add_argument("--size", type=int, default=64)
    arguments.add_argument("--filters", type=int, default=8)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    source = load_dataset(options.data).folder if options.data else None
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_DATA"], os.environ["COVSEG_CHECKPOINTS"] = f"{folder}/data", f"{folder}/checkpoints"
        study(options, source)


def study(options: argparse.Namespace, source: Path | None) -> None:
    truth = copied(source)
    split = make_split(truth, SplitConfig(seed=options.seed), "infection")
    learned = [id for id in (*split.train, *split.validation) if any(truth.case(id).infection_voxels or ())]
    true = {id: stored_mask(truth, truth.case(id), "infection").copy() for id in learned}
    for id, mask in true.items():
        save_revision(NAME, id, careless(mask), author="careless")
    settings = {"size": options.size, "filters": options.filters}
    [base] = trained(jobs.train(NAME, ["dice"], epochs=options.epochs, seed=options.seed, **settings))  # type: ignore[arg-type]
    if set(base.split.test) & set(learned):
        raise SystemExit("the split depends on the masks of this dataset: try another --seed")
    random = np.random.default_rng(options.seed)
    order = [str(id) for id in random.permutation([id for id in learned if id in split.train])]
    table = Table("cases corrected", "minutes", "Dice before", "Dice after", "gain", "gain a minute", "answer")
    corrected = 0
    for number in [each for each in options.corrected if each <= len(order)]:
        for id in order[corrected:number]:
            save_revision(NAME, id, true[id], author="reader", minutes=minutes(true[id]))
        corrected = number
        [run] = trained(jobs.train(NAME, start_from=base.id, epochs=max(1, options.epochs // 2)))
        found = measure_gain(run)
        before, after = found.dice
        figures = (f"{before:.3f}", f"{after:.3f}", f"{found.difference:+.3f}", f"{found.per_minute:+.4f}")
        table.add_row(str(len(found.work.cases)), f"{found.work.minutes:g}", *figures, found.sentence.split(":")[0])
    tested = f"{len(base.split.test)} test cases with true masks"
    table.title = f"{options.data or 'phantoms'}: {len(learned)} careless masks, {tested}"
    Console(width=140).print(table)


def copied(source: Path | None) -> Dataset:
    """The dataset in the study's own folder."""
    if source is None:
        return import_sample(NAME, scans=20, size=96)
    target = paths.data_root() / "datasets" / NAME
    target.parent.mkdir(parents=True)
    shutil.copytree(source, target)
    written = (target / "dataset.json").read_text(encoding="utf-8")
    (target / "dataset.json").write_text(written.replace(f'"name": "{source.name}"', f'"name": "{NAME}"'))
    return load_dataset(NAME)


def careless(mask: np.ndarray) -> np.ndarray:
    """(Z, Y, X): without the smaller lesions, the others wider."""
    labels, number = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    kept = 1 + np.argsort(-sizes, kind="stable")[: max(1, round((1 - SHARE_MISSED) * number))]
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), WIDER)
    return ndimage.binary_dilation(np.isin(labels, kept), disc[None]).astype(np.uint8)


def minutes(true: np.ndarray) -> float:
    """What the reader takes."""
    return MINUTES_A_SLICE * int(np.count_nonzero((careless(true) != true).any(axis=(1, 2))))


def trained(runs: list[Run]) -> list[Run]:
    jobs.wait(runs)
    for run in runs:
        if run.status.state != "finished":
            raise SystemExit(f"{run.id}: {run.status.reason}")
    return runs


if __name__ == "__main__":
    main()
