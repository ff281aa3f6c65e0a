"""The shipped model `infection`: the folds of a cross-validation in one file that answers with their mean.

    python docs/pretrained_folds.py --data DATA --folder FOLDER    finished folds to checkpoints/pretrained/infection

Every patient is in the test part of one fold, whose model has never seen them: the scores on the card are those of
single folds on such patients, and the threshold is picked on them. `pretrained.py` beside it trains the folds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shutil
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pretrained import DATASET, INFECTION, LICENCE, SHIPPED, SPLIT_LINES, finished_members, sources, use_folder

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.reading.volumes import load_mask
from covseg_core.data.slices.cache import prepare_dataset
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.stored_predictions.bfloat16_check import compare
from covseg_core.files import read_json, sha256_file, write_bytes, write_json
from covseg_core.prediction.ask import ask
from covseg_core.prediction.case_lungs import shipped_lungs
from covseg_core.prediction.engines import has_bfloat16
from covseg_core.prediction.masks.components import parts_to_keep
from covseg_core.prediction.predict import predict, predict_at
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.prediction.threshold import reaching
from covseg_core.runs import Run, Status
from covseg_core.runs.operating_point import FILE as POINT
from covseg_core.runs.operating_point import PEAKS, VERSION, OperatingPoint, Thresholds
from covseg_core.runs.training_data import FILE as TRAINING_DATA
from covseg_core.runs.training_data import describe
from covseg_core.training.combine import combine_onnx

CROPPED, FULL = "ct20", "fullfield"
HALF = (0.5, 0.0)
TRIED = tuple(itertools.product((0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7), PEAKS[:-1]))
"""Thresholds and peaks. Not the last peak: single folds, which are asked here, reach it, but their mean does so in few
faint lesions, and of patients with little infection it would take a quarter."""
AS_GOOD = 0.002
"""Mean Dice that is given for fewer false alarms, which scans of COVID-19 do not show."""
HEALTHY = {
    "gstt_covid_20": "named COVID-19, by eye normal lung bases, 20 slices",
    "lungpetct_A0002_8mm_B40f": "lung cancer without COVID-19, 30 slices of 8 mm",
}
MEASURE = "mean Dice over scans, cropped and full-field alike, each by a fold's model that has not seen the patient"


@dataclass(frozen=True)
class Tested:
    """A scan, by the model of the fold that has not seen its patient."""

    folder: str
    case: str
    fold: int
    slices: int
    dice: dict[tuple[float, float], float]
    """At each of `TRIED`; NaN where nothing is true and nothing marked."""


def main() -> None:
    """Combine, test, and write the folder."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--data", type=Path, required=True, help="folder with ct20/, fullfield/, noncovid/ and dicom/"
    )
    arguments.add_argument("--folder", type=Path, required=True, help="where data/ and checkpoints/ are")
    options = arguments.parse_args()
    use_folder(options.folder)
    publish(finished_members(), options.data)


def publish(members: Sequence[Run], data: Path) -> None:
    """Everything about the combined model, into its folder."""
    folder = SHIPPED / INFECTION
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    difference = combine_onnx([run.onnx for run in members], folder / "model.onnx")
    run = Run(folder)
    first = members[0].config
    dataset = load_dataset(DATASET)
    learned = Split(SplitConfig(), {case.id: tuple(range(case.slices)) for case in dataset.cases}, {}, {})
    write_json(folder / "config.json", dataclasses.replace(first, id=INFECTION, split=SplitConfig()))
    write_json(folder / "split.json", learned)
    seconds = sum(member.status.seconds for member in members)
    device = members[0].status.device
    write_json(folder / "status.json", Status("finished", epochs=first.train.epochs, seconds=seconds, device=device))
    for member in members:
        shutil.copyfile(member.history_csv, folder / f"history_fold{member.config.split.fold}.csv")
    prepare_dataset(dataset, first.prepare, first.target)
    known = {case.sha256["scan"] for case in dataset.cases} | {sha256_file(scan) for scan in sources(data)}
    write_json(folder / TRAINING_DATA, describe(dataset, learned.train, first.prepare, tuple(sorted(known))))
    cases = [(source, case.name) for source in (CROPPED, FULL) for case in sorted((data / source).iterdir())]
    by_case = {case: member for member in members for case in member.split.test}
    tested = [_tested(by_case[case], data, source, case) for source, case in cases if case in by_case]
    point = _point(run, tested)
    write_json(folder / POINT, point)
    if has_bfloat16():
        validated: dict[str, set[int]] = {}
        for member in members:
            for case, zs in member.split.validation.items():
                validated.setdefault(case, set()).update(zs)
        compare(run, dataset, {case: tuple(sorted(zs)) for case, zs in validated.items()})
    _failures(tested, by_case, data, folder, point)
    write_bytes(folder / "README.md", _card(run, members, tested, point, difference, data).encode())
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{INFECTION}: {len(members)} folds, {size:.1f} MB, {point.words}, Dice {point.score:.3f}")


def _tested(member: Run, data: Path, source: str, case: str) -> Tested:
    """Ask a fold's model about a whole scan of its test part."""
    truth, dice = _truth(data, source, case), {}
    for cut, mask in _masks(member, data, source, case, TRIED):
        marked = int(mask.sum()) + int(truth.sum())
        dice[cut] = 2 * int((mask & truth).sum()) / marked if marked else float("nan")
    return Tested(source, case, member.config.split.fold, len(truth), dice)


def _truth(data: Path, source: str, case: str) -> np.ndarray:
    """(Z, Y, X) bool."""
    return load_mask(data / source / case / "infection_mask.nii.gz").voxels > 0


def _masks(
    member: Run, data: Path, source: str, case: str, cuts: Iterable[tuple[float, float]]
) -> Iterator[tuple[tuple[float, float], np.ndarray]]:
    """Each threshold and peak with the fold's mask (Z, Y, X) bool of the scan."""
    scan = read_scan(data / source / case / "ct.nii.gz")
    with Spool() as spool:
        [answer] = ask(scan, [member], spool, shipped_lungs()).models
        for cut in cuts:
            sure = reaching(answer, cut[1]) if cut[1] else None
            yield cut, parts_to_keep(reaching(answer, cut[0]), 1, sure)[0] > 0


def _point(run: Run, tested: Sequence[Tested]) -> OperatingPoint:
    """The highest peak that is about as good on the scans of all folds as any, with its best threshold."""
    means = {cut: statistics.mean(_there(tested, cut)) for cut in TRIED}
    highest = max(means.values())
    good = [cut for cut in TRIED if means[cut] >= highest - AS_GOOD]
    best = max(good, key=lambda cut: (cut[1], means[cut]))
    return OperatingPoint(
        version=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_sha256=sha256_file(run.onnx),
        chosen_on="validation",
        measure=MEASURE,
        threshold=best[0],
        peak=best[1],
        minimum=0.0,
        unit="voxels",
        score=means[best],
        score_at_half=means[HALF],
        alone=best[0],
        score_alone=means[best],
        scans=len(tested),
        slices=sum(one.slices for one in tested),
    )


def _failures(
    tested: Sequence[Tested], by_case: Mapping[str, Run], data: Path, folder: Path, point: OperatingPoint
) -> None:
    """Three slices with most wrong, of three patients, as outlines of truth and mask: no pixel of a patient."""
    import cv2

    cut = point.threshold, point.peak
    full = (one for one in tested if one.folder == FULL and _truth(data, FULL, one.case).any())
    for number, one in enumerate(sorted(full, key=lambda one: one.dice[cut])[:3], start=1):
        truth, [(_, marked)] = _truth(data, FULL, one.case), _masks(by_case[one.case], data, FULL, one.case, [cut])
        z = int(np.argmax((truth ^ marked).sum(axis=(1, 2))))
        picture = np.full((512, 512, 3), 255, np.uint8)
        for mask, colour in ((truth[z], (0, 114, 178)), (marked[z], (213, 94, 0))):
            large = cv2.resize(mask[::-1, ::-1].astype(np.uint8), (512, 512), interpolation=cv2.INTER_NEAREST)
            contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, colour, 2)
        cv2.imwrite(str(folder / f"failure{number}.png"), picture[..., ::-1])


def _healthy(run: Run, data: Path, threshold: float) -> dict[float, tuple[float, int, int]]:
    """By peak, on slices without COVID-19: share of the lung that is marked, slices with more than 1 %, all slices."""
    lungs = load_mask(data / "noncovid" / "lung_mask.nii.gz").voxels > 0
    scan, found = read_scan(data / "noncovid" / "im.nii.gz"), {}
    with Spool() as spool:
        answers = ask(scan, [run], spool, shipped_lungs())
        for peak in PEAKS:
            mask = predict_at(scan, answers, Thresholds(threshold, 0.0, peak)).mask
            shares = mask.sum(axis=(1, 2)) / np.maximum(lungs.sum(axis=(1, 2)), 1)
            found[peak] = float(mask.sum() / lungs.sum()), int((shares > 0.01).sum()), len(shares)
    return found


def _false_alarms(run: Run, data: Path, healthy: tuple[float, int, int]) -> list[str]:
    """Rows of a table on scans without COVID-19."""
    share, many, slices = healthy
    rows = [
        f"| `noncovid` (evaluation only) | {slices} slices of patients without COVID-19 | {share:.2%} of the lung "
        f"| {many} slices with more than 1 % ({many / slices:.1%}) |"
    ]
    for name, what in HEALTHY.items():
        report = predict(data / "dicom" / name, [run]).report
        part = report.lungs.both.share if report.lungs else None
        marked = f"{len(report.mask.positive_slices)} of {report.scan.shape[0]} slices"
        rows.append(f"| `{name}` | {what} | {part or 0:.2%} of the lung | {marked} |")
    return rows


def _there(tested: Sequence[Tested], cut: tuple[float, float]) -> list[float]:
    """Dice of the scans that have one."""
    return [one.dice[cut] for one in tested if not np.isnan(one.dice[cut])]


def _mean(tested: Sequence[Tested], source: str, cut: tuple[float, float]) -> str:
    values = _there([one for one in tested if one.folder == source], cut)
    return f"{_spread(values)[:-1]}, {min(values):.3f} to {max(values):.3f})"


def _spread(values: Sequence[float]) -> str:
    """`0.744 ± 0.120 (n = 12)`."""
    return f"{statistics.mean(values):.3f} \u00b1 {statistics.stdev(values):.3f} (n = {len(values)})"


def _card(
    run: Run, members: Sequence[Run], tested: Sequence[Tested], point: OperatingPoint, difference: float, data: Path
) -> str:
    """The model card; every figure is computed here."""
    config, cut = run.config, (point.threshold, point.peak)
    healthy = _healthy(run, data, point.threshold)
    peaks = [
        f"| {peak:g} | {statistics.mean(_there(tested, (point.threshold, peak))):.4f} | {share:.2%} "
        f"| {many} of {slices} ({many / slices:.1%}) |"
        for peak, (share, many, slices) in healthy.items()
        if (point.threshold, peak) in TRIED
    ]
    stacks = [
        score.values["dice"]
        for member in members
        for score in read_json(member.evaluation, Evaluation).model.slices
        if "#" in score.patient and score.values["dice"] is not None
    ]
    folds = [
        f"| {member.config.split.fold} | {sum(map(len, member.split.train.values()))} | "
        f"{', '.join(sorted(member.split.validation))} | {', '.join(sorted(member.split.test))} |"
        for member in members
    ]
    scans = [
        f"| `{one.folder}/{one.case}` | {one.fold} | {one.slices} | {one.dice[HALF]:.3f} | {one.dice[cut]:.3f} |"
        for one in tested
    ]
    minutes = sum(member.status.seconds for member in members) / 60
    lines = [
        f"# {INFECTION}",
        "",
        "Outlines COVID-19 lesions (ground-glass and consolidation together) on axial slices of chest CT.",
        f"{len(members)} U-Nets in one file, each trained on other patients; their mean probability is the answer.",
        "**For research only. Not a medical device: not for diagnosis or treatment.**",
        "",
        f"    covseg predict scan.nii.gz --run {INFECTION} --output out/",
        "",
        "## Training",
        "",
        f"{config.prepare.size} px, {config.model.filters} filters, {config.train.epochs} epochs, {minutes:.0f} min",
        f"in all on {members[0].status.device}. Slices are cut to the lungs, which the model `lung` finds, and nothing",
        "outside of them is marked. Every setting is in `config.json`, the curves of each fold are in",
        "`history_fold*.csv`.",
        f"Weights are float16; the largest difference of a probability by that is {difference:.1g}.",
        "",
        "| fold | training slices | validated on | tested on |",
        "|---|---|---|---|",
        *folds,
        "",
        *SPLIT_LINES,
        "",
        "## Patients that a model has not seen",
        "",
        f"Dice per scan at the operating point, {point.words}, by the fold that tests the patient:",
        "mean \u00b1 standard deviation, and range. The mean of all folds, which is what you get, should be better on",
        "a new scan, but cannot be measured on these patients, whom the other folds have seen.",
        "",
        f"- cropped to the lungs (`{CROPPED}`): **{_mean(tested, CROPPED, cut)}**",
        f"- full field of view (`{FULL}`): **{_mean(tested, FULL, cut)}**",
        f"- slices of `medseg`, one by one, at 0.5: {_spread(stacks)}",
        "",
        "| scan | fold | slices | Dice at 0.5 | Dice at the point |",
        "|---|---|---|---|---|",
        *scans,
        "",
        "Threshold and peak were picked on these very scans, the same for all of them: parts of a mask that nowhere",
        "reach the peak are left out. Of what is about as good, the highest peak was taken, since these scans do not",
        "show how much a model makes up on healthy lungs.",
        "",
        "## False alarms",
        "",
        "| scan | what it is | marked | |",
        "|---|---|---|---|",
        *_false_alarms(run, data, healthy[point.peak]),
        "",
        f"What the peak does, at threshold {point.threshold:g}: Dice is of single folds on the scans above, false",
        "alarms are of all folds together on `noncovid`.",
        "",
        "| peak | mean Dice | marked of healthy lung | slices with more than 1 % |",
        "|---|---|---|---|",
        *peaks,
        "",
        "## Where it fails",
        "",
        "Three slices with most wrong, of full-field scans with the lowest Dice; blue is true, orange is marked:",
        "",
        "![failure 1](failure1.png) ![failure 2](failure2.png) ![failure 3](failure3.png)",
        "",
        "- Small and faint lesions are missed first; a scan with 0.1 % infection can score near 0.",
        "- Almost every training slice shows infection, so healthy lungs are rarely seen: vessels, atelectasis,",
        "  tumours, effusions and blur by breathing can be taken for lesions.",
        "- What the lung model does not find is not looked at, such as a lobe that is consolidated altogether.",
        "- Ten patients and fifty single slices: with others the mean can move by a tenth.",
        "- Scans in 0..255 that were not windowed from -1250 to 250 HU have other grey values for everything.",
        "",
        "## Licence",
        "",
        LICENCE,
        "",
        f"SHA-256 of `model.onnx`: `{sha256_file(run.onnx)}`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
