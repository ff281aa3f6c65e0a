"""`covseg runs ...`, and the lines of a training that is waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from covseg_core.cli.output import console, json_option, print_json, table
from covseg_core.config import METRICS
from covseg_core.runs import ACTIVE, RESUMABLE, Run, State, delete_runs, list_runs, open_run, open_runs, turns
from covseg_core.runs.labels import edit_labels, read_labels


class EpochLines:
    """A line for each epoch and each change of state, as they come."""

    def __init__(self, runs: Sequence[Run], quiet: bool) -> None:
        self.runs, self.quiet = runs, quiet
        self.seen: dict[str, tuple[str, int]] = {}

    def show(self) -> None:
        """Print what is new since the last call."""
        if self.quiet:
            return
        for run in self.runs:
            status = run.status
            state = ": ".join(filter(None, [status.state, status.reason or status.trains_on]))
            seen_state, seen_epoch = self.seen.get(run.id, ("queued", status.epoch if status.state == "queued" else 0))
            self.seen[run.id] = (state, status.epoch)
            for epoch in run.history()[seen_epoch : status.epoch]:
                click.echo(f"{run.id}: {epoch_line(epoch, status.epochs)}")
            if state != seen_state:
                click.echo(f"{run.id}: {state}")


def epoch_line(epoch: dict[str, float], epochs: int) -> str:
    """One epoch of a history in one line."""
    scores = [f"{name} {epoch[name]:.4f}" for name in epoch if name.startswith("val_")]
    start = f"epoch {epoch['epoch']:.0f} of {epochs}, {epoch['seconds']:.1f} s, loss {epoch['loss']:.4f}"
    return ", ".join([start, *scores])


@click.group()
def runs() -> None:
    """List, show, name, queue, export, stop, resume and delete runs."""


@runs.command("list")
@click.option("--tag", "tags", multiple=True, help="Only runs with this tag; several: with all of them.")
@json_option
def list_(tags: tuple[str, ...], as_json: bool) -> None:
    """All runs, oldest first; those of one experiment by name."""
    rows = [row(run) for run in sorted(list_runs(), key=lambda run: (run.config.created, run.id))]
    rows = [one for one in rows if set(tags) <= set(one["tags"])]
    if as_json:
        print_json(rows)
        return
    if tags and not rows:
        click.echo(f"No run has {'this tag' if len(tags) == 1 else 'all of these tags'}.")
        return
    if not rows:
        click.echo("No runs yet: `covseg train DATASET --metric all` starts three.")
        return
    _print_table(rows)


@runs.command()
@click.argument("run")
@json_option
def show(run: str, as_json: bool) -> None:
    """Settings, status and curves of a RUN."""
    found = open_run(run)
    whole = {
        "labels": read_labels(found),
        "status": found.status,
        "config": found.config,
        "history": found.history(),
    }
    if as_json:
        print_json(whole)
        return
    summary = row(found)
    for name, value in summary.items():
        click.echo(f"{name:>12}  {', '.join(value) if name == 'tags' else value}")
    for epoch in found.history():
        click.echo(epoch_line(epoch, summary["epochs"]))


@runs.command()
@click.argument("run")
@click.option("--name", help="A name for people; empty to remove it.")
@click.option("--note", help="A note; empty to remove it.")
@click.option("--tag", "add", multiple=True, help="Add this tag; can be given several times.")
@click.option("--untag", "remove", multiple=True, help="Remove this tag; can be given several times.")
@json_option
def edit(
    run: str, name: str | None, note: str | None, add: tuple[str, ...], remove: tuple[str, ...], as_json: bool
) -> None:
    """Name, note and tags of a RUN, or of all runs of an experiment."""
    if name is None and note is None and not add and not remove:
        raise click.UsageError("nothing to change: give --name, --note, --tag or --untag")
    found = open_runs(run)
    edit_labels(found, name, note, add, remove)
    if as_json:
        print_json(_row_or_rows(run, found))
        return
    for one in found:
        labels = read_labels(one)
        click.echo(f"{one.id}: {' · '.join(filter(None, [labels.name, labels.note, *labels.tags])) or 'no labels'}")


@runs.command()
@click.argument("run")
@json_option
def stop(run: str, as_json: bool) -> None:
    """End the training of a RUN, or all of an experiment, at the next batch; it can be resumed."""
    from covseg_core.runs import jobs

    found = _of(run, ACTIVE)
    for one in found:
        jobs.stop(one)
        if not as_json:
            click.echo(f"{one.id}: asked to stop")
    if as_json:
        print_json(_row_or_rows(run, found))


@runs.command()
@click.argument("run", required=False)
@click.option("--up", is_flag=True, help="Change places with the run before.")
@click.option("--pause", is_flag=True, help="Let the others go first.")
@click.option("--unpause", is_flag=True, help="Take part again.")
@json_option
def queue(run: str | None, up: bool, pause: bool, unpause: bool, as_json: bool) -> None:
    """The runs that wait on this machine, in the order of their turns; moves or pauses a RUN."""
    if run is None and (up or pause or unpause):
        raise click.UsageError("say which run")
    if pause and unpause:
        raise click.UsageError("--pause or --unpause, not both")
    if run is not None:
        found = open_run(run)
        if pause or unpause:
            turns.pause(found, pause)
        if up:
            turns.move_up(found)
    rows = [{"id": one.run.id, "paused": one.turn.paused, "reason": one.status.reason} for one in turns.waiting()]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No run waits.")
    for number, one in enumerate(rows, start=1):
        click.echo(f"{number}  {one['id']}{'  paused' if one['paused'] else ''}")


@runs.command()
@click.argument("run")
@click.option("--place", metavar="PLACE", help="Where it goes on; where it was by default.")
@click.option("--wait", is_flag=True, help="Return when the training has ended.")
@json_option
def resume(run: str, place: str | None, wait: bool, as_json: bool) -> int:
    """Put a RUN that ended early, or all such of an experiment, back into the queue, after the last complete epoch."""
    from covseg_core.runs import jobs

    found = _of(run, RESUMABLE)
    for one in found:
        jobs.resume(one, place)
        if not as_json:
            click.echo(f"{one.id}: queued after epoch {one.status.epoch}")
    if wait:
        jobs.wait(found, EpochLines(found, quiet=as_json).show)
    if as_json:
        print_json(_row_or_rows(run, found))
    return int(wait and any(one.status.state != "finished" for one in found))


@runs.command()
@click.argument("run")
@click.option(
    "--tensorboard", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for event files."
)
@click.option("--mlflow", "uri", help="Address of an MLflow, or `default` for MLFLOW_TRACKING_URI.")
def export(run: str, folder: Path | None, uri: str | None) -> None:
    """Give a RUN, or all of an experiment, to TensorBoard or MLflow."""
    from covseg_core.export.event_files import write_event_files
    from covseg_core.export.mlflow_runs import log_run

    if folder is None and uri is None:
        raise click.UsageError("say where to: --tensorboard FOLDER or --mlflow ADDRESS")
    for one in open_runs(run):
        if folder is not None:
            written = write_event_files(one, folder)
            click.echo(f"{one.id}: {folder / one.id if written else 'has no epoch yet'}")
        if uri is not None:
            click.echo(f"{one.id}: MLflow run {log_run(one, '' if uri == 'default' else uri)}")


@runs.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(run: str, yes: bool, as_json: bool) -> None:
    """Remove a RUN, or all of an experiment that has ended, with weights, curves and evaluation."""
    found = open_runs(run)
    if not yes and sys.stdin.isatty():
        what = str(found[0].folder) if len(found) == 1 else f"{len(found)} runs of {run}"
        click.confirm(f"Delete {what}?", abort=True)
    delete_runs(found)
    print_json({"id": run, "deleted": True}) if as_json else click.echo(f"{run}: deleted")


def _of(id: str, states: Sequence[State]) -> list[Run]:
    """The run, whatever its state; of an experiment those in one of the states, or one that will say what is wrong."""
    found = open_runs(id)
    return [run for run in found if run.status.state in states] or found[:1]


def _row_or_rows(id: str, found: Sequence[Run]) -> Any:
    """Of a run its row; of an experiment a list of them."""
    return row(found[0]) if found[0].id == id else [row(run) for run in found]


def row(run: Run) -> dict[str, Any]:
    """What a list shows of a run."""
    from covseg_core.runs.history import best_epoch

    config, status, labels = run.config, run.status, read_labels(run)
    score = f"val_{METRICS[config.metric].score}"
    scores = [epoch[score] for epoch in run.history()]
    best = best_epoch(scores)
    return {
        "id": run.id,
        "experiment": config.experiment,
        "name": labels.name,
        "tags": list(labels.tags),
        "note": labels.note,
        "state": status.state,
        "dataset": config.dataset,
        "metric": config.metric,
        "target": config.target,
        "preset": config.preset,
        "split": config.split.kind,
        "fold": config.split.fold,
        "folds": config.split.folds,
        "epoch": status.epoch,
        "epochs": config.train.epochs,
        "best_epoch": best,
        "score": score,
        "best_score": scores[best - 1] if best else None,
        "seconds": round(status.seconds, 1),
        "place": run.placed.place,
        "device": status.device,
        "chosen": status.chosen,
        "reason": status.reason,
        "folder": str(run.folder),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    labelled = any(row["name"] or row["tags"] for row in rows)
    columns = ["run", *(["name, tags"] if labelled else []), "state", "epoch", "best", "score", "time", "reason"]
    runs = table(*columns, folded=["run", "name, tags", "reason"], right=["epoch"])
    for row in rows:
        labels = [" · ".join(filter(None, [row["name"], ", ".join(row["tags"])]))]
        runs.add_row(
            row["id"],
            *(labels if labelled else []),
            row["state"],
            f"{row['epoch']}/{row['epochs']}",
            row["score"].removeprefix("val_") if row["best_epoch"] else "",
            f"{row['best_score']:.4f}" if row["best_epoch"] else "",
            time.strftime("%H:%M:%S", time.gmtime(row["seconds"])),
            row["reason"],
        )
    console().print(runs)
