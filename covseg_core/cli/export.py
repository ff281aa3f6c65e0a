"""`covseg export`."""

from __future__ import annotations

import click

from covseg_core.runs import open_run


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
def export(run_ids: tuple[str, ...]) -> None:
    """Make model.onnx from the best weights of each RUN, where training could not (needs TensorFlow)."""
    runs = [open_run(id) for id in run_ids]
    from covseg_core.training.export import export_run

    for run in runs:
        difference = export_run(run)
        click.echo(f"{run.onnx}: differs from Keras by at most {difference:.2g}")
