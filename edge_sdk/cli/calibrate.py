"""``edge-sdk calibrate``: the fastest precision for every layer that keeps the accuracy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from edge_sdk.cli import shared
from edge_sdk.errors import UsageError

if TYPE_CHECKING:
    from edge_sdk.calibration.energy import EnergyMeter
    from edge_sdk.calibration.stages import Step
    from edge_sdk.calibration.timing import Timer
    from edge_sdk.targets import Precision


def command(
    model: str = typer.Argument(None, help=shared.MODEL_HELP),
    images: list[str] = typer.Option(
        ..., "--images", help="Your own photos: a folder, a video, a glob, or COCO, YOLO or VOC data; may be repeated."
    ),
    target: str = typer.Option(None, "--target", help="Board to plan for; left out: this one."),
    out: Path = typer.Option(
        None, "--out", help="Folder for the plan, the models and the report; left out: named after the model."
    ),
    max_map_drop: float = typer.Option(
        None, "--max-map-drop", min=0.0, max=1.0, help="Of mAP50-95; 0.005 where no budget at all is given."
    ),
    max_latency_ms: float = typer.Option(None, "--max-latency-ms", help="Of one inference."),
    max_latency_ratio: float = typer.Option(
        None, "--max-latency-ratio", help="Of one inference, against the optimized float model in the same run."
    ),
    max_size_mib: float = typer.Option(None, "--max-size-mib", help="Of the model file."),
    max_energy_mj: float = typer.Option(
        None, "--max-energy-mj", help="Of one inference, idle power included; this machine's power sensor is read."
    ),
    sensor: str = typer.Option(
        None, "--sensor", metavar="NAME[:ADDRESS]", help="A meter in place of the board's own: see 'edge-sdk devices'."
    ),
    sensor_option: list[str] = typer.Option(
        None, "--sensor-option", metavar="KEY=VALUE", help="For the sensor: fit=published; may be repeated."
    ),
    count: int = typer.Option(64, "--count", min=1, help="Photos that ranges are taken from."),
    seed: int = typer.Option(0, "--seed", help="Of all that is drawn by chance."),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads inside one inference when latency is measured."),
    time_budget: float = typer.Option(None, "--time-budget", help="Seconds, after which the best so far is taken."),
    pin: list[str] = typer.Option(
        None, "--pin", metavar="GROUP=PRECISION", help="Keep a group, or all that fit a pattern, so; may be repeated."
    ),
    forbid: list[str] = typer.Option(
        None, "--forbid", metavar="GROUP=PRECISION", help="Never give it to a group or pattern; may be repeated."
    ),
    start: Path = typer.Option(None, "--start", help="A plan.json whose pinned groups stay as they are."),
    workers: int = typer.Option(None, "--workers", min=1, help="Processes that probe; left out: one for each core."),
    device: str = typer.Option(None, "--device", metavar="USER@HOST", help="Measure latency there, over SSH."),
    profile: Path = typer.Option(None, "--profile", help="Latencies that --save-profile wrote, in place of measuring."),
    save_profile: Path = typer.Option(None, "--save-profile", help="Keep the measured latencies in this file."),
    estimate: bool = typer.Option(
        False, "--estimate", help="Take latency from the shipped table: marked as estimated wherever it shows."
    ),
    cache: Path = typer.Option(None, "--cache", help="Folder of what has been computed; left out: the SDK's own."),
    head: str = shared.head_option,
    card: Path = shared.card_option,
    as_json: bool = shared.json_option,
) -> None:
    """Find the fastest precision for every layer that keeps the accuracy, on your own photos.

    Ranges are taken from some of the photos, precisions are searched on others, and what is handed over is proved on a
    third part, as real files, measured in turns. Stopped at any moment, the same command goes on where it was.

    This is quantization calibration; it has nothing to do with a camera's lens.

    Example: edge-sdk calibrate yolox_nano.onnx --images photos/ --max-map-drop 0.005 --out yolox_nano_int8
    """
    from edge_sdk.calibration.export import need_packages

    need_packages("pycocotools", "plotly")
    from edge_sdk.calibration.handover import model_name
    from edge_sdk.calibration.planner import plan_for
    from edge_sdk.calibration.report import record, summary
    from edge_sdk.calibration.request import Request
    from edge_sdk.detector import find_model

    if sum((device is not None, profile is not None, estimate)) > 1:
        raise UsageError("--device, --profile and --estimate are three ways to know latency: choose one")
    request = Request(
        max_map_drop=max_map_drop,
        max_latency_ms=max_latency_ms,
        max_latency_ratio=max_latency_ratio,
        max_size_mib=max_size_mib,
        max_energy_mj=max_energy_mj,
        count=count,
        seed=seed,
        threads=threads,
        time_budget_s=time_budget,
        pins=cast("dict[str, Precision]", shared.parse_options(pin, "--pin")),
        forbid=cast("dict[str, Precision]", shared.parse_options(forbid, "--forbid")),
    )
    folder = out if out is not None else Path(f"{find_model(model).stem}_plan")
    with _progress() as tell:
        found = plan_for(
            model,
            images,
            request,
            target=target,
            out=folder,
            start=start,
            workers=workers,
            timer=_timer(device, profile, save_profile, threads),
            estimate=estimate,
            energy=_meter(sensor, sensor_option),
            cache=cache,
            head=head,
            card=card,
            progress=tell,
        )
    if as_json:
        shared.print_json(record(found))
        return
    typer.echo(summary(found))
    typer.echo(f"\nwritten to {folder}: plan.json, prepared.onnx, {model_name(found)}, report.html, report.json")


def _timer(device: str | None, profile: Path | None, save_profile: Path | None, threads: int) -> Timer | None:
    """What measures latency; None is this machine, with nothing kept."""
    from edge_sdk.calibration.remote_timing import RemoteTimer
    from edge_sdk.calibration.timing import LocalTimer, RecordedTimer, Recording
    from edge_sdk.shell import SshShell

    timer: Timer | None = None
    if profile is not None:
        timer = RecordedTimer(profile)
    elif device is not None:
        timer = RemoteTimer(SshShell(device), threads=threads)
    if save_profile is None:
        return timer
    return Recording(timer if timer is not None else LocalTimer(threads=threads), save_profile)


def _meter(sensor: str | None, options: list[str] | None) -> EnergyMeter | None:
    """The meter that was named; None is the board's own, where a budget asks for one."""
    from edge_sdk.calibration.energy import EnergyMeter

    if sensor is None and not options:
        return None
    return EnergyMeter(sensor, shared.parse_options(options, "--sensor-option"))


@contextmanager
def _progress() -> Iterator[Callable[[Step], None] | None]:
    """A bar of the whole run with the time left, on standard error; lines where that is no terminal."""
    if not sys.stderr.isatty():
        seen: list[str] = []

        def line(step: Step) -> None:
            if step.stage not in seen:
                seen.append(step.stage)
                typer.echo(f"{step.fraction:4.0%}  {step.what}", err=True)

        yield line
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=shared.console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, left="")

        def show(step: Step) -> None:
            count = f" {step.done}/{step.total}" if step.total else ""
            left = "" if step.left_s is None else f"about {_span(step.left_s)} left"
            bar.update(task, completed=step.fraction, description=f"{step.what}{count}", left=left)

        yield show


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
