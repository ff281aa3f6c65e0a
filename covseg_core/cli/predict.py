"""`covseg predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from covseg_core.errors import CovsegError, ScanError, SettingError

if TYPE_CHECKING:
    from covseg_core.prediction.output.report import MaskReport, Report
    from covseg_core.prediction.predict import Prediction
    from covseg_core.progress import Progress

NO_LUNGS = "none"


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="SCAN...")
@click.option("--run", "runs", metavar="RUN...", multiple=True, required=True, help="The model, or several.")
@click.option("--output", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option(
    "--threshold",
    type=float,
    help="Probability from which a voxel counts. Without it, --min-size and --min-peak: the runs' operating points, "
    "else 0.5.",
)
@click.option("--scale", type=click.Choice(["HU", "0-255"]), help="Of the scan's values, if it is not detected.")
@click.option("--series", metavar="KEY", help="Of the DICOM series to read, where there are several.")
@click.option(
    "--min-size",
    "minimum_mm3",
    metavar="MM3",
    type=float,
    help="Leave out parts of a mask below this size.",
)
@click.option(
    "--min-peak",
    "peak",
    metavar="P",
    type=float,
    help="Leave out parts of a mask whose probability nowhere reaches this.",
)
@click.option(
    "--combine",
    type=click.Choice(["mean", "vote"]),
    default="mean",
    show_default=True,
    help="How several models become one mask: by the mean of their probabilities, or by the vote of their masks.",
)
@click.option(
    "--mirror",
    is_flag=True,
    help="Show each slice mirrored left to right, too, and average the answers. Takes twice the time.",
)
@click.option("--keep-beyond", is_flag=True, help="Keep what lies beyond the chest, as the lung model sees it.")
@click.option(
    "--lungs",
    metavar="RUN|none",
    help="Lung model for shares of each lung; if not given, the shipped `lung` if it is there.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16: half the time, on processors that have it, for runs that passed `covseg bfloat16`.",
)
@click.option("--name", default="", help="What the sheet and the report call the scan. Not given: nothing.")
@click.option(
    "--keep-patient",
    is_flag=True,
    help="Name patient and study in DIR/mask.dcm as the series does, for an archive that files by them.",
)
@click.option("--all", "every", is_flag=True, help="A cohort: every scan below SCAN, at any depth and in zips.")
@click.option("--pseudonyms", is_flag=True, help="Of a cohort: call its scans scan-001 and so on.")
@click.option("--processes", type=click.IntRange(1), help="Of a cohort: scans at a time. Not given: as many as fit.")
@click.option("--json", "as_json", is_flag=True, help="Print the report, or the cohort, as JSON.")
def predict(
    words: tuple[str, ...],
    runs: tuple[str, ...],
    output: Path,
    lungs: str | None,
    every: bool,
    pseudonyms: bool,
    processes: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Write the mask of a SCAN, in its own geometry, to DIR/mask.nii.gz; or those of many scans.

    SCAN is a .nii or .nii.gz file, a folder, zip or file of DICOM slices, or a PNG or JPG of one slice. Where a folder
    has several series, an error lists them with the keys for --series.

    With several runs (--run A --run B, or --run A B) a voxel is in the mask where the mean of the models'
    probabilities, each stretched so that the model's threshold comes to 0.5, reaches 0.5; with --combine vote, where
    more than half of the models say so. Each model's own mask goes to DIR/mask_RUN.nii.gz, and how far they disagree to
    DIR/disagreement.nii.gz. A run with an operating point (`covseg operating-point`) is used at that, unless
    --threshold, --min-size or --min-peak set all models alike.

    DIR/report.html is a page to print; report.csv and report.json have the same figures, settings and versions. A
    lung model adds DIR/lung_mask.nii.gz and the share of each lung; a DICOM series adds DIR/mask.dcm and measures.dcm.

    All files are written or none. Those of an earlier prediction in DIR are replaced, unless they were edited since.

    Several SCANs, or --all for every scan below a folder, are a cohort: a folder in DIR for each scan, DIR/cohort.csv
    and DIR/cohort.html. A scan that fails is told, and the others go on; the exit code is 2 then. The same call again
    goes on where the last one has ended, and tries again what has failed.
    """
    from covseg_core.files import to_json
    from covseg_core.prediction.predict import predict as predict_scan
    from covseg_core.runs import open_run

    scans, more_runs = _told_apart(words)
    models = [open_run(run) for run in (*runs, *more_runs)]
    settings["lungs"] = "shipped" if lungs is None else None if lungs == NO_LUNGS else open_run(lungs)
    if every or len(scans) > 1:
        from covseg_core.cli.cohort import predict_many

        return predict_many(scans, models, output, pseudonyms, processes, as_json, settings)
    if pseudonyms or processes:
        raise SettingError("pseudonyms" if pseudonyms else "processes", "one scan", "several, or --all")
    with _bar(quiet=as_json) as progress, _several(settings["series"]):
        prediction = predict_scan(scans[0], models, output, progress=progress, **settings)
    if as_json:
        click.echo(to_json(prediction.report).decode(), nl=False)
    else:
        _print(prediction)
    return 0


def _told_apart(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Scans and further runs among what is no option: `ct.nii.gz --run A B` names one scan and two runs.

    What is the path of something and no run's id is a scan; so is the first, whatever else is called like it.
    """
    scans, runs = [], []
    for number, word in enumerate(words):
        run, there = _is_run(word), Path(word).exists()
        if there and (not run or not number):
            scans.append(Path(word))
        elif run or number:
            runs.append(word)
        else:
            scans.append(Path(word))  # which says that it is not there
    if not scans:
        scans, runs = [Path(runs[0])], runs[1:]
    if wrong := [word for word in runs if not _is_run(word)]:
        raise SettingError(wrong[0], "neither a file or folder nor a run", "scans, and runs of `covseg runs list`")
    return scans, runs


def _is_run(word: str) -> bool:
    from covseg_core.runs import open_run

    try:
        open_run(word)
    except CovsegError:
        return False
    return True


@contextmanager
def _several(series: str | None) -> Iterator[None]:
    """Where one scan was meant and there are several, say how to have them all."""
    from covseg_core.data.reading.opening import SeveralScans

    try:
        yield
    except SeveralScans as error:
        more = "" if series else "; or --all for every one of them"
        raise ScanError(error.what, error.found, f"{error.expected}{more}") from None


@contextmanager
def _bar(quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on a terminal's standard error, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="Predicting", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


def _print(prediction: Prediction) -> None:
    from covseg_core.runs.operating_point import words

    report = prediction.report
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    rows: list[tuple[str, MaskReport, str]] = [(report.target, report.mask, "")]
    if len(report.models) > 1:
        own = report.threshold is None
        rows += [
            (f"  {model.run}", model.mask, f", {words(model.threshold, model.minimum_mm3, model.peak)}" * own)
            for model in report.models
        ]
    width = max(len(name) for name, _, _ in rows)
    for name, mask, cut in rows:
        lesions = f", {mask.lesions:,} lesion{'s' * (mask.lesions != 1)}" if report.target == "infection" else ""
        slices = f"in {len(mask.positive_slices)} of {report.scan.shape[0]} slices"
        click.echo(f"{name:<{width}}  {_size(mask)}, {slices}{lesions}{cut}")
    if report.nothing:
        click.echo(report.nothing)
    if report.expected_dice:
        click.echo(report.expected_dice.sentence)
    if report.lungs:
        _print_lungs(report)
    if report.operating:
        click.echo(report.operating)
    if len(report.models) > 1:
        tied = f"; {report.tied_voxels:,} voxels tied" if report.tied_voxels else ""
        click.echo(f"combined by {report.combined}{tied}")
    if any(model.precision == "bfloat16" for model in report.models):
        click.echo("computed in bfloat16: single probabilities differ a little from float32")
    if report.mirror:
        click.echo("each slice was shown mirrored, too, and the two answers averaged")
    if prediction.replaced:
        click.echo(f"replaced the earlier {', '.join(prediction.replaced)}")
    click.echo(f"written to {prediction.output}")
    click.echo(report.notice)


def _print_lungs(report: Report) -> None:
    lungs = report.lungs
    if lungs is None or lungs.both.share is None:
        click.echo("no lungs found: no shares")
        return
    parts = {"right lung": lungs.right, "left lung": lungs.left, "both lungs": lungs.both}
    for name, part in parts.items():
        click.echo(f"{name}  {'-' if part.share is None else f'{part.share:.1%}'} infected")
    if lungs.beyond_voxels:
        size = f"{lungs.beyond_voxels:,} voxels" if lungs.beyond_ml is None else f"{lungs.beyond_ml:.1f} mL"
        click.echo(f"left out beyond the chest: {size}")
    if lungs.outside_voxels:
        click.echo(f"{lungs.outside_share:.1%} of the infection lies outside the lungs")


def _size(mask: MaskReport) -> str:
    """Volume where it is known, else the number of voxels."""
    return f"{mask.voxels:,} voxels" if mask.volume_ml is None else f"{mask.volume_ml:.1f} mL"
