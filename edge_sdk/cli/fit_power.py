"""``edge-sdk fit-power``: fits a Raspberry Pi 5's own power figure to a meter that is before it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import typer

from edge_sdk.cli import shared
from edge_sdk.errors import SinkError, UsageError


def command(
    meter: str = typer.Option(..., "--meter", metavar="NAME:ADDRESS", help="What is before the board: shelly:HOST."),
    out: Path = typer.Option(..., "--out", help="Where the fit goes; --sensor-option fit=FILE takes it."),
    seconds: float = typer.Option(30.0, "--seconds", min=10.0, help="At each load; a plug needs 60 or more."),
    meter_option: list[str] = typer.Option(
        None, "--meter-option", metavar="KEY=VALUE", help="For the meter; may be repeated."
    ),
    as_json: bool = shared.json_option,
) -> None:
    """Calibrate this board's own power figure against a meter.

    Reads both with none, some and all cores busy, and fits a line. A Raspberry Pi 5 knows what its rails draw, not what
    USB, fan and converters do: with the line through your own board's figures it comes close. Attach what will be
    attached later, and let nothing else run.

    Example: edge-sdk fit-power --meter shelly:192.168.1.20 --out pi5-fit.json
    """
    from edge_sdk.device import system_root
    from edge_sdk.measure.power_fit import levels, measure_points
    from edge_sdk.sensors.base import Wanted, drivers, missing_driver
    from edge_sdk.sensors.pmic import PmicSensor
    from edge_sdk.sensors.pmic_fit import fit_line, save
    from edge_sdk.sensors.power import open_power
    from edge_sdk.shell import shell_for

    name, _, address = meter.partition(":")
    if name not in drivers():
        raise UsageError(str(missing_driver(name)))
    if out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):  # said before minutes of measuring
        raise SinkError(f"{out}: cannot be written: {'it is a folder' if out.is_dir() else out.parent}")
    root = system_root()
    with open_power() as power:
        board = power.main
        if board is None:
            raise UsageError(f"there is nothing to fit: {power.reason}")
        if board.name != PmicSensor.name:
            raise UsageError(
                f"{board.name} takes no fit: this is for the power chip of a Raspberry Pi 5, 500 or CM5, whose sum "
                "lacks the 5 V rail"
            )
        options = shared.parse_options(meter_option, "--meter-option")
        external = drivers()[name].open(Wanted(address=address, root=root, shell=shell_for(root), options=options))
        try:
            with shared.progress("fitting", len(levels())) as advance:
                points = measure_points(board, external, seconds=seconds, told=lambda place, _: advance(int(place > 1)))
        finally:
            external.close()
    fit = fit_line((point.board_w, point.meter_w) for point in points)
    save(fit, out)
    if as_json:
        shared.print_json({"fit": asdict(fit), "points": [asdict(point) for point in points], "file": str(out)})
        return
    for point in points:
        typer.echo(f"{point.busy} busy: board {point.board_w:.3f} W, meter {point.meter_w:.3f} W")
    typer.echo(f"board = {fit.slope:.4f} * sum + {fit.intercept_w:.4f} W, off by {fit.rms_w:.3f} W in the r.m.s.")
    typer.echo(f"use it with: --sensor-option fit={out}")
