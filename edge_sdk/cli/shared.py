"""Options that several commands take, and how they print."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from edge_sdk.measure.running import PowerStats

MODEL_HELP = "A model file or the name of a zoo model; left out: the embedded default."

backend_option = typer.Option(
    "auto",
    "--backend",
    help="auto, onnxruntime, tflite, or with a part: onnxruntime:CUDAExecutionProvider, tflite:xnnpack.",
)
confidence_option = typer.Option(0.25, "--confidence", min=0.0, max=1.0, help="Show boxes scored above this.")
iou_option = typer.Option(None, "--iou", min=0.0, max=1.0, help="Of non-maximum suppression; left out: the head's own.")
classes_option = typer.Option(None, "--class", help="Only this class, by name or id; may be repeated.")
threads_option = typer.Option(None, "--threads", min=1, help="Threads inside one inference.")
head_option = typer.Option(None, "--head", help="Which head reads the outputs, where several fit.")
card_option = typer.Option(None, "--card", help="A model card (TOML) elsewhere than beside the model.")
option_option = typer.Option(None, "--option", help="KEY=VALUE for the backend or its provider; may be repeated.")
json_option = typer.Option(False, "--json", help="Print JSON on standard output.")


def parse_options(pairs: Sequence[str] | None, name: str = "--option") -> dict[str, str]:
    """KEY=VALUE words, which the option `name` took, as a mapping.

    Raises:
        UsageError: One has no '='.
    """
    parsed = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{name} wants KEY=VALUE, not {pair!r}")
        parsed[key] = value
    return parsed


def power_text(energy: PowerStats | None, reason: str | None) -> str:
    """A run's power and energy in words: the figures with their method, or why there are none.

    Args:
        energy: Of the run; None where there is no sensor.
        reason: Why there is none.
    """
    if energy is None or energy.mean_w is None or energy.energy_j is None:
        return f"not measured: {reason if energy is None else energy.reason}"
    text = f"{energy.mean_w:.2f} W in the mean, {energy.energy_j:.1f} J"
    if energy.per_result_mj is not None:
        text += f", {energy.per_result_mj:.0f} mJ a result with idle power"
    why = f": {energy.reason}" if energy.reason else ""
    gaps = f"; {energy.gaps_s:.1f} of {energy.seconds:.1f} s without a value" if energy.gaps_s > 1 else ""
    return f"{text} ({energy.method}{why}){gaps}"


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))


def console(*, stderr: bool = False) -> Console:
    """Where tables and progress are drawn; progress goes to standard error, so that pipes stay clean."""
    from rich.console import Console

    return Console(stderr=stderr, file=sys.stderr if stderr else sys.stdout, soft_wrap=True, highlight=False)


def output_is_a_file() -> bool:
    """Whether standard output goes into a file: neither to a screen nor to a program that may write to one."""
    try:
        return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def progress(label: str, total: int | None, *, wanted: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar with the time left on standard error, where that is a terminal; yields what advances it."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
