"""How the command line prints: tables that fit the terminal and survive a pipe, progress for who is watching, JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from covseg_core.files import to_json

PIPED = 160
"""Columns of a table that goes to a file or another program."""

json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
names_option = click.option(
    "--names", is_flag=True, help="In JSON, the true names of cases and patients instead of case-001 and patient-001."
)
"""The choice that the Compare page has as a box: what may be given away has no names unless they are asked for."""


def print_json(value: Any) -> None:
    """Print dataclasses, dicts and lists as JSON on stdout."""
    click.echo(to_json(value), nl=False)


def console() -> Console:
    """For tables on stdout; wide enough for a whole row where nobody looks."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED
    return console


def table(*columns: str, folded: Collection[str] = (), right: Collection[str] = ()) -> Table:
    """A plain table: names may be folded over lines, numbers may not."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(column, no_wrap=column not in folded, overflow="fold", justify=justify)  # type: ignore[arg-type]
    return table


@contextmanager
def progress_bar(words: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while somebody is watching; yields the function to call with what is done and what there is."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(words), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    disabled = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=disabled) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
