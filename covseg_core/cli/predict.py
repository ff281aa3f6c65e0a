"""`covseg predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from covseg_core.prediction.inference import Progress
    from covseg_core.prediction.predict import Prediction
    from covseg_core.prediction.report import MaskReport


@click.command()
@click.argument("scan", type=click.Path(path_type=Path))
@click.argument("more_runs", nargs=-1, metavar="")
@click.option("--run", "runs", metavar="RUN...", multiple=True, required=True, help="The model; several of them vote.")
@click.option("--output", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--threshold", type=float, default=0.5, show_default=True, help="Probability from which a voxel counts.")
@click.option("--scale", type=click.Choice(["HU", "0-255"]), help="Of the scan's values, if it is not detected.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def predict(
    scan: Path, more_runs: tuple[str, ...], runs: tuple[str, ...], output: Path, as_json: bool, **settings: Any
) -> None:
    """Write the mask of a SCAN (.nii or .nii.gz), in its own geometry, to DIR/mask.nii.gz.

    With several runs (--run A --run B, or --run A B) a voxel is in the mask when more than half of the models say so;
    each model's own mask goes to DIR/mask_RUN.nii.gz. DIR/report.json has volumes, settings and versions.

    All files are written or none. Those of an earlier prediction in DIR are replaced, unless they were edited since.
    """
    from covseg_core.files import to_json
    from covseg_core.prediction.predict import predict_scan
    from covseg_core.runs import open_run

    models = [open_run(run) for run in (*runs, *more_runs)]
    with _bar(quiet=as_json) as progress:
        prediction = predict_scan(scan, models, output, progress=progress, **settings)
    if as_json:
        click.echo(to_json(prediction.report).decode(), nl=False)
    else:
        _print(prediction)


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
    report = prediction.report
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    rows: list[tuple[str, MaskReport]] = [(report.target, report.mask)]
    if len(report.models) > 1:
        rows += [(f"  {model.run}", model.mask) for model in report.models]
    width = max(len(name) for name, _ in rows)
    for name, mask in rows:
        click.echo(f"{name:<{width}}  {_size(mask)}, in {len(mask.positive_slices)} of {report.scan.shape[0]} slices")
    if len(report.models) > 1:
        click.echo(f"vote: {report.vote}" + (f"; {report.tied_voxels:,} voxels tied" if report.tied_voxels else ""))
    if prediction.replaced:
        click.echo(f"replaced the earlier {', '.join(prediction.replaced)}")
    click.echo(f"written to {prediction.output}")
    click.echo(report.notice)


def _size(mask: MaskReport) -> str:
    """Volume where it is known, else the number of voxels."""
    return f"{mask.voxels:,} voxels" if mask.volume_ml is None else f"{mask.volume_ml:.1f} mL"
