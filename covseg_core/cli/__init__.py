"""The command line: `covseg`, also `python -m covseg_core`.

Exit code 0 on success, 2 with one line on stderr for what the user can mend, 1 if a training failed. Commands are
imported when they are called, so that `covseg predict` does not pay for the others.
"""

from __future__ import annotations

import importlib
import sys

import click

from covseg_core.errors import CovsegError
from covseg_core.version import __version__

COMMANDS = {
    "data": "covseg_core.cli.data:data",
    "review": "covseg_core.cli.review:review",
    "train": "covseg_core.cli.train:train",
    "runs": "covseg_core.cli.runs:runs",
    "places": "covseg_core.cli.places:places",
    "export": "covseg_core.cli.export:export",
    "evaluate": "covseg_core.cli.evaluate:evaluate",
    "leakage": "covseg_core.cli.leakage:leakage",
    "shift": "covseg_core.cli.shift:shift",
    "bfloat16": "covseg_core.cli.bfloat16:bfloat16",
    "operating-point": "covseg_core.cli.operating_point:operating_point",
    "gain": "covseg_core.cli.gain:gain",
    "quality": "covseg_core.cli.quality:quality",
    "doubts": "covseg_core.cli.doubts:doubts",
    "predict": "covseg_core.cli.predict:predict",
    "archive": "covseg_core.cli.archive:archive",
    "bundle": "covseg_core.cli.evidence:bundle",
    "verify": "covseg_core.cli.evidence:verify",
}

FORMER_NAMES = {"operate": "operating-point"}
"""Still understood, since they stand in scripts; no help lists them."""


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        current = FORMER_NAMES.get(cmd_name, cmd_name)
        if current not in COMMANDS:
            return None
        module, name = COMMANDS[current].split(":")
        return getattr(importlib.import_module(module), name)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="covseg")
def cli() -> None:
    """Train U-Nets that outline COVID-19 lesions on chest CT, compare them, and predict new scans.

    Research use only, not for diagnosis. Data are kept in COVSEG_DATA, runs in COVSEG_CHECKPOINTS.
    """


def main() -> None:
    """Entry point of `covseg`."""
    try:
        sys.exit(cli.main(prog_name="covseg", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except CovsegError as error:
        _fail(str(error))
    except BrokenPipeError:
        # the reader, such as `head`, has seen enough; nothing may be written at exit either
        sys.stdout = None
        sys.exit(0)
    except MemoryError:
        _fail("this takes more memory than there is")
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}")


def _fail(message: str) -> None:
    click.echo(f"covseg: {message}", err=True)
    sys.exit(2)
