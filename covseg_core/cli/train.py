"""`covseg train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import click

from covseg_core.cli.output import console, json_option, print_json, table
from covseg_core.cli.runs import EpochLines, row
from covseg_core.config import AUGMENTATIONS, METRICS, PRESETS, THESIS, Region, Schedule, SplitKind, Target
from covseg_core.runs import Run


@click.command()
@click.argument("dataset")
@click.option(
    "--metric",
    type=click.Choice([*METRICS, "all"]),
    help="What the model is compiled with; all: the thesis's three. Needed unless --from names a run that has one.",
)
@click.option("--from", "start_from", metavar="RUN", help="Start from this run's best weights, to fine-tune it.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="quick by default; with --from, that of the run.")
@click.option(
    "--split",
    type=click.Choice([*get_args(SplitKind), "both"]),
    default="patient",
    show_default=True,
    help="Both: two experiments, to see by how much a split by slice raises the scores.",
)
@click.option(
    "--target", type=click.Choice(get_args(Target)), help="infection by default; with --from, that of the run."
)
@click.option("--epochs", type=int, help="In place of the preset's.")
@click.option("--size", type=int, help="Side of the slices in pixels, a multiple of 16.")
@click.option("--filters", type=int, help="Channels of the first block.")
@click.option("--batch", type=int, help="Slices a step.")
@click.option("--region", type=click.Choice(get_args(Region)), help="Cut slices to the lungs, or not.")
@click.option("--context", type=int, help="Neighbouring slices on each side that the network sees, too.")
@click.option("--learning-rate", type=float, help="Of Adam, at the start.")
@click.option("--schedule", type=click.Choice(get_args(Schedule)), help="How the learning rate falls.")
@click.option("--patience", type=int, help="Stop after so many epochs without a better validation score; 0: never.")
@click.option("--augmentation", type=click.Choice(list(AUGMENTATIONS)), help="Random changes to training slices.")
@click.option("--ema", type=float, help="Average the weights: share of the past at each step, such as 0.99.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--split-seed", type=int, help="Of the split alone; else that of --seed.")
@click.option("--folds", type=int, default=0, help="Cross-validation: every patient is tested in one of so many folds.")
@click.option("--leave-out", metavar="CASE", multiple=True, help="Neither train nor test on this case; repeatable.")
@click.option("--leave-out-rejected", is_flag=True, help="The same for cases whose masks were rejected in a review.")
@click.option(
    "--seeds", type=int, default=1, show_default=True, help="Trainings of each metric, each with a seed of its own."
)
@click.option("--place", metavar="PLACE", default="local", show_default=True, help="Where: see `covseg places list`.")
@click.option("--wait", is_flag=True, help="Return when the trainings have ended.")
@json_option
def train(
    dataset: str,
    metric: str | None,
    preset: str | None,
    split: str,
    leave_out_rejected: bool,
    wait: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Train U-Nets on DATASET, in processes of their own; on this machine one after another on each device."""
    from covseg_core.runs import jobs

    if metric is None and settings["start_from"] is None:
        raise click.UsageError("Missing option '--metric'. Choose from: " + ", ".join([*METRICS, "all"]))
    if split == "both" and settings["start_from"]:
        raise click.UsageError("--split both: with --from, the split is that of the run")
    if leave_out_rejected:
        settings["leave_out"] = (*settings["leave_out"], *_rejected(dataset, settings))
    metrics = THESIS if metric == "all" else (metric,) if metric else None
    runs = []
    for kind in ("patient", "slice") if split == "both" else (split,):
        started = jobs.train(dataset, metrics, preset, split=kind, **settings)  # type: ignore[arg-type]
        runs += started
        if as_json:
            continue
        _print_folds(started) if started[0].config.split.folds else _print_split(started[0])
        _print_seeds(started)
        for run in started:
            click.echo(f"queued {run.id}")
    if wait:
        try:
            jobs.wait(runs, EpochLines(runs, quiet=as_json).show)
        except KeyboardInterrupt:
            click.echo("The trainings go on; `covseg runs list` shows them, `covseg runs stop` ends one.", err=True)
            raise
    elif not as_json:
        click.echo("The trainings go on in the background: `covseg runs list`.")
    if as_json:
        print_json([row(run) for run in runs])
    return int(wait and any(run.status.state != "finished" for run in runs))


def _rejected(dataset: str, settings: dict[str, Any]) -> list[str]:
    """Cases whose masks of what is to be learned were rejected."""
    from covseg_core.data.library.datasets import load_dataset
    from covseg_core.data.library.reviews import rejected
    from covseg_core.runs import open_run

    parent = settings["start_from"]
    target = settings["target"] or (open_run(parent).config.target if parent else "infection")
    found = rejected(load_dataset(dataset), target)
    click.echo(f"Left out, since their masks were rejected: {', '.join(found) or 'none'}", err=True)
    return found


def _print_split(run: Run) -> None:
    """What is trained, validated and tested on, and who stands on more than one side."""
    from covseg_core.data.library.datasets import load_dataset
    from covseg_core.data.splitting.split import split_report

    config = run.config
    report = split_report(run.split, load_dataset(config.dataset, config.fingerprint), config.target)
    columns = ("part", "patients", "scans", "slices", f"with {config.target}")
    parts = table(*columns, right=columns[1:])
    for part in report.parts:
        parts.add_row(part.part, *map(str, (part.patients, part.scans, part.slices, part.positive)))
    click.echo(f"Split by {config.split.kind}, seed {config.split.seed}:")
    console().print(parts)
    if report.leaky:
        shared = ", ".join(list(report.shared_patients)[:5]) + (", ..." if len(report.shared_patients) > 5 else "")
        click.echo(
            f"LEAKY: {len(report.shared_patients)} patients on more than one side, so scores are too good: {shared}"
        )


def _print_seeds(runs: Sequence[Run]) -> None:
    """Which seeds each metric is trained with, where there are several."""
    trained = [run.config for run in runs if run.config.train.seeds]
    if not trained:
        return
    seeds: dict[str, list[int]] = {}
    for config in trained:
        seeds.setdefault(METRICS[config.metric].label, []).append(config.train.seed)
    each = "; ".join(f"{metric} {min(several)} to {max(several)}" for metric, several in seeds.items())
    click.echo(f"Every model is trained {trained[0].train.seeds} times on this split, with seeds of its own: {each}.")


def _print_folds(runs: Sequence[Run]) -> None:
    """What each fold trains, validates and tests on."""
    from covseg_core.data.library.datasets import load_dataset
    from covseg_core.data.splitting.split import split_report

    config = runs[0].config
    dataset = load_dataset(config.dataset, config.fingerprint)
    columns = ("fold", "", "train", "validation", "test", f"test with {config.target}")
    rows = table(*columns, right=columns[2:])
    for split in {run.config.split.fold: run.split for run in runs}.values():
        parts = split_report(split, dataset, config.target).parts
        if config.split.kind == "patient":
            rows.add_row(str(split.config.fold), "patients", *(str(part.patients) for part in parts), "")
        rows.add_row(str(split.config.fold), "slices", *(str(part.slices) for part in parts), str(parts[2].positive))
    click.echo(f"Split by {config.split.kind} into {config.split.folds} folds, seed {config.split.seed}:")
    console().print(rows)
    if config.split.kind == "slice":
        click.echo("LEAKY: patients on more than one side, so scores are too good")
