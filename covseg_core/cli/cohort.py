"""`covseg predict` of many scans: a line a scan, and what there is at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from covseg_core.cli.output import print_json
from covseg_core.errors import CovsegError, SettingError
from covseg_core.prediction.cohort.page import PAGE, expected_words
from covseg_core.prediction.cohort.predict import Step, predict_cohort
from covseg_core.prediction.cohort.state import Cohort, Row
from covseg_core.prediction.cohort.table import TABLE
from covseg_core.prediction.request import asked_for
from covseg_core.progress import duration
from covseg_core.runs import Run


def predict_many(
    scans: Sequence[Path],
    models: Sequence[Run],
    output: Path,
    pseudonyms: bool,
    processes: int | None,
    as_json: bool,
    settings: dict[str, Any],
) -> int:
    """Predict a cohort and print how far it is; the exit code.

    Parameters
    ----------
    settings : options of `covseg predict` by name
    """
    for name in ("series", "name"):
        if value := settings.pop(name):
            raise SettingError(name, f"{value} for several scans", "one scan; of a cohort, each has its own")
    request = asked_for(models, **settings)
    if sys.stderr.isatty() and not as_json:
        click.echo("looking for scans", err=True)  # which takes a minute for tens of thousands of DICOM files
    try:
        cohort = predict_cohort(scans, request, output, pseudonyms, None if as_json else _tell, processes=processes)
    except KeyboardInterrupt:
        click.echo("stopped: the same call goes on from here", err=True)
        raise
    if as_json:
        print_json(cohort)
    else:
        _print_end(cohort, output)
    if cohort.failed:
        click.echo(f"{len(cohort.failed)} of {len(cohort.rows)} scans failed", err=True)
    return 2 if cohort.failed else 0


def _tell(step: Step) -> None:
    if step.row is None:
        _print_begin(step)
        return
    left = "" if step.seconds_left is None else f"  (about {duration(step.seconds_left, rough=True)} left)"
    width = len(str(step.total))
    told = _failed(step) if step.row.state == "failed" else _told(step.row)
    click.echo(f"[{step.done:>{width}}/{step.total}] {step.row.name}  {told}{left}")


def _print_begin(step: Step) -> None:
    before = f"; {step.done:,} of them need not be predicted again" if step.done else ""
    click.echo(f"{step.total:,} scan{'s' * (step.total != 1)}{before}")
    for note in step.notes:
        click.echo(note)


def _failed(step: Step) -> str:
    """Where it lies as well: that is how it can be found."""
    assert step.row is not None
    place, series = step.where
    return str(CovsegError(f"failed: {place}{f' (series {series})' if series else ''}", step.row.problem))


def _told(row: Row) -> str:
    """`123.4 mL  8.2 % of the lungs  class 2  3.1 s`, or which other scan it is."""
    figures = row.figures
    if figures is None:
        return f"the same scan as {row.same_as}"
    parts = [f"{figures.voxels:,} voxels" if figures.volume_ml is None else f"{figures.volume_ml:.1f} mL"]
    if figures.share is not None:
        parts.append(f"{100 * figures.share:.1f} % of the lungs")
    if figures.severity is not None:
        parts.append(f"class {figures.severity}")
    if figures.expected_dice and figures.expected_dice.words:
        parts.append(f"expected Dice {figures.expected_dice.words}")
    if figures.warnings:
        parts.append(f"{len(figures.warnings)} warning{'s' * (len(figures.warnings) > 1)}")
    return "  ".join([*parts, f"{figures.seconds:.1f} s"])


def _print_end(cohort: Cohort, output: Path) -> None:
    click.echo(f"written to {output}: {PAGE}, {TABLE} and a folder for each scan")
    if any(row.figures and row.figures.severity is not None for row in cohort.rows):
        from covseg_core.prediction.cohort.severity import EXPLAINED

        click.echo(EXPLAINED)
    for line in expected_words(cohort):
        click.echo(line)
    click.echo(cohort.notice)
