"""The shipped models: trained on the real data as `covseg train` does it, and put where git keeps them.

    python docs/pretrained.py train --data DATA [--folder FOLDER]       data set and trainings in FOLDER
    python docs/pretrained.py publish --data DATA [--folder FOLDER]     finished ones to checkpoints/pretrained/
    python docs/pretrained_folds.py --data DATA [--folder FOLDER]       `infection`, from its finished folds

Training takes hours on two CPU cores, goes on in the background and can be asked for again after an interruption. What
is published is the run folder without weights for resuming, previews, logs and test predictions, which show the data's
masks; and a model card whose every figure is computed here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np

from covseg_core import runs
from covseg_core.config import Metric, PrepareConfig, RunConfig, SplitConfig, Target, preset
from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.splitting.split import make_split
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.scores import ScanScore
from covseg_core.evaluation.stored_predictions.bfloat16_check import compare
from covseg_core.files import sha256_file, write_bytes, write_json
from covseg_core.prediction.engines import has_bfloat16
from covseg_core.prediction.predict import predict
from covseg_core.runs import RESUMABLE, Run, Status, create_run, jobs
from covseg_core.runs.training_data import write_training_data

INFECTION = "infection"
ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "checkpoints" / "pretrained"
DATASET = "chest"
"""Every annotated slice once, with its full field of view where there is one."""
PREPARE = PrepareConfig(size=160)
LUNGS = PrepareConfig(size=160, region="lungs")
SINGLE = SplitConfig(seed=5)
"""Chosen before any training, by who is in which part: test patients of all three sources."""
FOLDS = tuple(
    SplitConfig(kind="patient", fractions=(0.68, 0.12, 0.2), seed=0, folds=5, fold=fold) for fold in range(1, 6)
)
"""Of `infection`: most patients train, and no patient of ten weighs more than it must."""
LICENCE = """The training data may be used for non-commercial purposes only, and so may these weights: COVID-19 CT Lung
and Infection Segmentation Dataset (Ma et al., Zenodo record 3757476, CC BY-NC-SA; its Radiopaedia cases under
Radiopaedia's licence) and COVID-19 CT segmentation dataset of medicalsegmentation.com (set 1, non-commercial)."""

SPLIT_LINES = (
    "Split by patient; `tr` is the stack of 50 single slices of `medseg`, each of another patient. Slices that exist",
    "with their full field of view are used with it, the others are cropped to the lungs and padded.",
)
POOLED = {"dice": "Dice", "iou": "foreground IoU", "sensitivity": "sensitivity", "precision": "precision"}


@dataclass(frozen=True)
class Model:
    """One training for a shipped model; all but these settings are those of the preset `robust`."""

    name: str
    target: Target
    metric: Metric
    seed: int
    prepare: PrepareConfig
    epochs: int = 24
    split: SplitConfig = SINGLE


MODELS = (
    Model("lung", "lung", "dice", 0, PREPARE, 16),
    Model("infection-dice", "infection", "dice", 0, LUNGS),
    Model("infection-iou", "infection", "iou", 1, LUNGS),  # another seed, else it would be the accuracy model once more
    Model("infection-accuracy", "infection", "accuracy", 2, LUNGS),
)
MEMBERS = tuple(
    Model(f"{INFECTION}-fold{split.fold}", "infection", "combined", split.fold, replace(LUNGS, size=208), split=split)
    for split in FOLDS
)
"""Of `infection`."""


def main() -> None:
    """Do what the command line asks for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("step", choices=["train", "publish"])
    arguments.add_argument("--data", type=Path, required=True, help="folder with ct20/, medseg/ and dicom/")
    arguments.add_argument("--folder", type=Path, default=ROOT, help="where data/ and checkpoints/ are")
    arguments.add_argument("--only", choices=[model.name for model in (*MODELS, *MEMBERS)])
    options = arguments.parse_args()
    use_folder(options.folder)
    for model in MODELS if options.step == "publish" else (*MODELS, *MEMBERS):
        if options.only in (None, model.name):
            train(model, options) if options.step == "train" else publish(model, options.data)


def use_folder(folder: Path) -> None:
    """Data and runs are there from now on."""
    os.environ["COVSEG_DATA"] = str(folder.absolute() / "data")
    os.environ["COVSEG_CHECKPOINTS"] = str(folder.absolute() / "checkpoints")


def assemble(data: Path, folder: Path) -> None:
    """Every annotated slice once, with its full field of view where there is one, a folder for each case.

    `fullfield` holds all slices of the Radiopaedia cases, and of the Coronacases those that `slices.json` names by
    their number in `ct20`, pixel on pixel.
    """
    for case in sorted(path for path in (data / "ct20").iterdir() if path.is_dir()):
        full, target = data / "fullfield" / case.name, folder / case.name
        if case.name.startswith("radiopaedia"):
            shutil.copytree(full, target, ignore=shutil.ignore_patterns("slices.json"), dirs_exist_ok=True)
            continue
        target.mkdir(parents=True, exist_ok=True)
        there = json.loads((full / "slices.json").read_text())["ct20_slice"] if full.is_dir() else []
        for name in ("ct.nii.gz", "lung_mask.nii.gz", "infection_mask.nii.gz"):
            image = nib.load(case / name)
            voxels = np.asarray(image.dataobj).copy()
            if there:
                voxels[..., there] = np.asarray(nib.load(full / name).dataobj)
            nib.save(nib.Nifti1Image(voxels, image.affine, image.header), target / name)


def sources(data: Path) -> list[Path]:
    """The scans that the models of `chest` have learned from, as they were before they were put together."""
    found = [scan for part in ("ct20", "fullfield") for scan in sorted((data / part).glob("*/ct.nii.gz"))]
    return [*found, data / "medseg" / "tr_im.nii.gz"]


def train(model: Model, options: argparse.Namespace) -> None:
    """Start or resume a training; the data set is made first."""
    if DATASET not in list_datasets():
        assemble(options.data, options.folder / "source")
        import_dataset(DATASET, [options.folder / "source", options.data / "medseg"])
    run = find(model)
    if run is None:
        dataset, base = load_dataset(DATASET), preset("robust")
        config = RunConfig(
            id=model.name,
            experiment=f"{INFECTION}-folds" if model in MEMBERS else "compared",
            dataset=DATASET,
            fingerprint=dataset.fingerprint,
            metric=model.metric,
            preset="robust",
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            target=model.target,
            prepare=model.prepare,
            split=model.split,
            model=base.model,
            train=replace(base.train, epochs=model.epochs, seed=model.seed),
            versions=jobs.versions(),
        )
        jobs.start(create_run(config, make_split(dataset, model.split, model.target)))
    elif run.status.state in RESUMABLE:
        jobs.resume(run)


def find(model: Model) -> Run | None:
    """The run of a training."""
    return next((run for run in runs.list_runs() if run.id == model.name), None)


def finished_members() -> list[Run]:
    """Folds of `infection`."""
    found = [run for run in map(find, MEMBERS) if run is not None]
    return [run for run in found if run.status.state == "finished"]


def publish(model: Model, data: Path) -> None:
    """Evaluate a finished run, test it on scans from elsewhere, and copy it under its name."""
    run = find(model)
    if run is None or run.status.state != "finished":
        print(f"{model.name}: not finished")
        return
    evaluation = evaluate_run(run)
    (run.folder / "training_data.json").unlink(missing_ok=True)  # one of an older version means other things
    write_training_data(run)
    folder = SHIPPED / model.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", replace(run.config, id=model.name))
    write_json(folder / "evaluation.json", replace(evaluation, run=model.name, predictions=None))
    status = run.status
    write_json(
        folder / "status.json",
        Status("finished", epoch=status.epoch, epochs=status.epochs, seconds=status.seconds, device=status.device),
    )
    for name in ("split.json", "standardise.json", "training_data.json", "history.csv", "model.onnx"):
        if (run.folder / name).exists():
            shutil.copyfile(run.folder / name, folder / name)
    if has_bfloat16():
        compare(Run(folder), load_dataset(DATASET), run.split.validation)
    write_bytes(folder / "README.md", card(model, Run(folder), evaluation, elsewhere(run, data)).encode())
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{model.name}: {size:.1f} MB, Dice {dice_line(evaluation)}")


def elsewhere(run: Run, data: Path) -> list[str]:
    """Rows of a table: what the model finds in scans with their full field of view that it has never seen."""
    rows = []
    scans = {
        "gstt_covid_20": "COVID-19, 20 slices, full field of view",
        "lungpetct_A0002_8mm_B40f": "lung cancer without COVID-19, 30 slices of 8 mm: all infection is a false alarm",
    }
    for name, what in scans.items():
        lungs = Run(SHIPPED / "lung") if run.config.target == "infection" and (SHIPPED / "lung").is_dir() else None
        report = predict(data / "dicom" / name, [run], lungs=lungs).report
        ml = report.mask.volume_ml
        volume = "unknown" if ml is None else f"{ml:,.1f} mL"
        if report.lungs and report.lungs.beyond_ml:
            volume += f", and {report.lungs.beyond_ml:,.1f} mL beyond the chest that were left out"
        rows.append(f"| `{name}` | {what} | {volume} | {len(report.mask.positive_slices)} of {report.scan.shape[0]} |")
    return rows


def dice_line(evaluation: Evaluation) -> str:
    """Mean over scans with their range; slices of a stack count one by one, since each is a patient."""
    values = [value for _, value in dice_by_scan(evaluation)]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {spread:.3f} ({min(values):.3f} to {max(values):.3f}, n = {len(values)})"


def dice_by_scan(evaluation: Evaluation) -> list[tuple[str, float]]:
    """Name and Dice of every test scan."""
    single = {scan.case for scan in evaluation.model.scans if is_stack(scan, evaluation)}
    rows = [(scan.case, scan.values["dice"]) for scan in evaluation.model.scans if scan.case not in single]
    rows += [
        (f"{score.case} slice {score.z}", score.values["dice"])
        for score in evaluation.model.slices
        if score.case in single
    ]
    return [(name, value) for name, value in rows if value is not None]


def is_stack(scan: ScanScore, evaluation: Evaluation) -> bool:
    """Whether its slices are of several patients."""
    return len({score.patient for score in evaluation.model.slices if score.case == scan.case}) > 1


def card(model: Model, run: Run, evaluation: Evaluation, rows: list[str]) -> str:
    """The model card."""
    config, history = run.config, run.history()
    score = {"accuracy": "val_pixel_accuracy", "iou": "val_iou_foreground", "dice": "val_dice_foreground"}[model.metric]
    best = max(history, key=lambda row: row[score])
    volumes = [scan for scan in evaluation.model.scans if not is_stack(scan, evaluation)]
    stacks = [value for name, value in dice_by_scan(evaluation) if " slice " in name]
    scans = [
        f"| `{scan.case}` | {scan.slices} | {scan.values['dice']:.3f} |"
        for scan in volumes
        if scan.values["dice"] is not None
    ]
    if stacks:
        scans.append(
            f"| slices of `medseg`, each another patient | {len(stacks)} | {statistics.mean(stacks):.3f} "
            f"± {statistics.stdev(stacks):.3f} ({min(stacks):.3f} to {max(stacks):.3f}) |"
        )
    baselines = [
        f"| {row.name} | {row.pooled['dice']:.3f} |" for row in evaluation.baselines if row.pooled["dice"] is not None
    ]
    parts = {part: run.split.part(part) for part in ("train", "validation", "test")}
    counts = [
        f"| {part} | {sum(map(len, chosen.values()))} | {', '.join(sorted(chosen))} |" for part, chosen in parts.items()
    ]
    region = ["Slices are cut to the lungs, which the model `lung` finds, and nothing outside of them is marked."]
    what = "lungs" if model.target == "lung" else "COVID-19 lesions (ground-glass and consolidation together)"
    training = run.status
    pooled = ", ".join(f"{name} {evaluation.model.pooled[key]:.3f}" for key, name in POOLED.items())
    lines = [
        f"# {model.name}",
        "",
        f"A U-Net that outlines {what} on axial slices of chest CT, compiled with {model.metric}.",
        "**For research only. Not a medical device: not for diagnosis or treatment.**",
        "",
        f"    covseg predict scan.nii.gz --run {model.name} --output out/",
        "",
        "## Training",
        "",
        f"Preset `{config.preset}`: {config.prepare.size} px, {config.model.filters} filters, {len(history)} epochs,",
        f"seed {config.train.seed}, {training.seconds / 60:.0f} min on {training.device}.",
        f"The weights are a moving average, of epoch {best['epoch']:.0f}, the best on validation "
        f"({score} {best[score]:.3f}).",
        "Every setting is in `config.json`, the curves are in `history.csv`, the split is in `split.json`.",
        "",
        "| part | slices | cases |",
        "|---|---|---|",
        *counts,
        "",
        *SPLIT_LINES,
        *(region if config.prepare.region == "lungs" else []),
        "",
        "## Test patients, never seen in training",
        "",
        f"Dice per scan: **{dice_line(evaluation)}**: mean ± standard deviation, and range. Slices of",
        "`medseg` count one by one.",
        "",
        f"Pooled over all voxels: {pooled}.",
        "",
        "| scan | slices | Dice |",
        "|---|---|---|",
        *scans,
        "",
        "| baseline on the same voxels | pooled Dice |",
        "|---|---|",
        *baselines,
        "",
        "## Scans from elsewhere",
        "",
        f"| scan | what it is | {what.split(' (')[0]} found | slices |",
        "|---|---|---|---|",
        *rows,
        "",
        "## Where it fails",
        "",
        *limits(model),
        "",
        "## Licence",
        "",
        LICENCE,
        "",
        f"SHA-256 of `model.onnx`: `{sha256_file(run.onnx)}`",
        "",
    ]
    return "\n".join(lines)


def limits(model: Model) -> list[str]:
    """What a user should look out for."""
    common = [
        "- A handful of test patients: the mean can move by a tenth with others.",
        "- Scans in 0..255 that were not windowed from -1250 to 250 HU have other grey values for everything.",
    ]
    if model.target == "lung":
        return ["- Consolidated lung next to the chest wall can be left out.", *common]
    return [
        "- Almost every training slice shows infection, so healthy lungs are rarely seen: vessels, atelectasis,",
        "  tumours, effusions and blur by breathing can be taken for lesions (see the scan without COVID-19 above).",
        "- Small and faint lesions are missed first; a scan with 0.1 % infection can score near 0.",
        *common,
    ]


if __name__ == "__main__":
    main()
