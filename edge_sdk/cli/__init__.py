"""The ``edge-sdk`` command.

One file a command in this folder; a module is a command by having ``command`` (a function) or ``app`` (a Typer group).
Only Typer is imported to show help; a command imports what it needs when it runs.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import pkgutil
import signal
import sys

import typer

from edge_sdk.cli import ending
from edge_sdk.errors import OPENCV_LIBRARIES_HINT, EdgeSdkError, UsageError, one_line

EXIT_FAILED = 1
EXIT_USAGE = 2
EXITS_ON_SIGNALS = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # as shells report them


def build() -> typer.Typer:
    """The command with every subcommand in this folder."""
    app = typer.Typer(
        name="edge-sdk",
        help="Trained detectors on Jetson, Raspberry Pi and Snapdragon boards.\n\nStart with: edge-sdk doctor",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help comes up in half the time, which a small board needs
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"edge_sdk.cli.{info.name}")
        name = info.name.replace("_", "-")
        if hasattr(module, "command"):
            app.command(name)(module.command)
        elif hasattr(module, "app"):
            app.add_typer(module.app, name=name)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from edge_sdk import __version__

        typer.echo(f"edge-sdk {__version__}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", is_eager=True, callback=_print_version
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say on standard error what is chosen and why."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),  # read by main
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("edge_sdk")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)


def _give_up_output() -> None:
    """Python flushes standard output once more when it ends; what cannot be written must not fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _raised_in_opencv(error: ImportError) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0] == "cv2":
            return True
        frame = frame.tb_next
    return False


def _open_missing_streams() -> None:
    """A service manager may start us with standard output or error closed; what is written there then goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  for the process's life


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; errors go to standard error as one line.

    Exit codes: 0 done, 1 the work failed, 2 wrong usage.
    """
    words = sys.argv[1:] if arguments is None else arguments
    _open_missing_streams()
    debug = "--debug" in words
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files and classes that the terminal has no letters for
        sys.stdout.reconfigure(errors="backslashreplace")
    # These may stand anywhere: who adds one to a failed line puts it at the end.
    anywhere = [word for word in words if word in ("--debug", "--verbose", "-v")]
    words = [*anywhere, *(word for word in words if word not in anywhere)]
    try:
        with ending.in_order():
            try:
                build()(args=words, prog_name="edge-sdk")
            finally:
                sys.stdout.flush()  # here its failure can still be told
    except BrokenPipeError:
        # The reader of our output has gone (`edge-sdk ... | head`): nobody is left to tell.
        _give_up_output()
        sys.exit(EXIT_FAILED)
    except SystemExit as stop:
        if stop.code in EXITS_ON_SIGNALS:
            typer.echo("interrupted", err=True)
        raise
    except EdgeSdkError as error:
        if debug:
            raise
        typer.echo(f"edge-sdk: {one_line(error)}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ImportError) and _raised_in_opencv(error):
            typer.echo(f"edge-sdk: {one_line(error)}; {OPENCV_LIBRARIES_HINT}", err=True)
            sys.exit(EXIT_FAILED)
        if isinstance(error, OSError):  # the disk or the stream that standard output goes to
            _give_up_output()
            typer.echo(f"edge-sdk: {one_line(error)}", err=True)
            sys.exit(EXIT_FAILED)
        typer.echo(
            f"edge-sdk: internal error, {type(error).__name__}: {one_line(error)} (--debug shows where)", err=True
        )
        sys.exit(EXIT_FAILED)
