"""``edge-sdk report``: what saved profiles and calibrations say, in the terminal, as a page and as CSV."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from edge_sdk.cli import shared
from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint


def command(
    files: list[Path] = typer.Argument(
        ..., metavar="FILE...", help="Profiles (JSON), the ring file of a run, or the report.json of a calibration."
    ),
    html: Path = typer.Option(None, "--html", help="Write one self-contained page with plots to this file."),
    csv: Path = typer.Option(
        None, "--csv", help="Write the samples, windows and latencies of one profile, or the tables of a calibration."
    ),
    as_json: bool = shared.json_option,
) -> None:
    """Show a profile, or compare several with the first.

    Needs neither the model nor the sensor: what a board measured can be looked at anywhere. The ring file that an
    interrupted run leaves shows the samples alone. The report.json that `edge-sdk calibrate` wrote is drawn again,
    without its photos.

    Example: edge-sdk report before.json after.json --html compared.html
    """
    from edge_sdk.measure.ring import MAGIC

    calibrations = [path for path in files if _is_calibration(path)]
    if calibrations:
        if len(files) > 1:
            raise UsageError(f"{calibrations[0]}: a calibration, which is shown alone")
        _calibration(files[0], html, csv, as_json)
        return
    rings = [path for path in files if _starts_with(path, MAGIC)]
    if rings and len(files) > 1:
        raise UsageError(f"{rings[0]}: samples of an interrupted run, which cannot be compared with anything")
    if csv is not None and (rings or len(files) > 1):
        raise UsageError("--csv wants one profile")
    if rings:
        _ring(rings[0], html, as_json)
    elif len(files) == 1:
        _profile(files[0], html, csv, as_json)
    else:
        _comparison(files, html, as_json)


def _calibration(path: Path, html: Path | None, csv: Path | None, as_json: bool) -> None:
    try:
        from edge_sdk.calibration import report
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{error.name} is not installed: {extra_hint('calibrate')}") from error

    outcome = report.read(path)
    if html is not None:
        report.calibration_page(outcome).save(html)
        typer.echo(f"written: {html}", err=True)
    if csv is not None:
        typer.echo(f"written: {', '.join(str(file) for file in report.write_csv(outcome, csv))}", err=True)
    if as_json:
        shared.print_json(report.record(outcome))
    else:
        typer.echo(report.summary(outcome))


def _profile(path: Path, html: Path | None, csv: Path | None, as_json: bool) -> None:
    from edge_sdk.report.read import read_profile
    from edge_sdk.report.text import summary

    profile = read_profile(path)
    if html is not None:
        from edge_sdk.report.profile_page import profile_page

        profile_page(profile).save(html)
        typer.echo(f"written: {html}", err=True)
    if csv is not None:
        from edge_sdk.report.table import write_csv

        typer.echo(f"written: {', '.join(str(file) for file in write_csv(profile, csv))}", err=True)
    if as_json:
        shared.print_json(profile.record())
    else:
        typer.echo(summary(profile))


def _comparison(paths: list[Path], html: Path | None, as_json: bool) -> None:
    from edge_sdk.report import text
    from edge_sdk.report.compare import compare
    from edge_sdk.report.read import read_profile

    profiles = [read_profile(path) for path in paths]
    if html is not None:
        from edge_sdk.report.comparison_page import comparison_page

        comparison_page(profiles).save(html)
        typer.echo(f"written: {html}", err=True)
    found = compare(profiles)
    if as_json:
        shared.print_json(found.record())
    else:
        typer.echo(text.comparison(found))


def _ring(path: Path, html: Path | None, as_json: bool) -> None:
    from dataclasses import asdict

    from edge_sdk.measure import ring
    from edge_sdk.report.ring_page import NOTICE, ring_page, summary, tracks

    traces = ring.read(path)
    if html is not None:
        ring_page(path.name, traces).save(html)
        typer.echo(f"written: {html}", err=True)
    if as_json:
        shared.print_json({"notice": NOTICE, "channels": [asdict(track) for track in tracks(traces)]})
    else:
        typer.echo(summary(path.name, traces))


def _is_calibration(path: Path) -> bool:
    return re.match(rb'\s*\{\s*"schema"\s*:\s*"edge-sdk/calibration/', _beginning(path, 200)) is not None


def _starts_with(path: Path, magic: bytes) -> bool:
    return _beginning(path, len(magic)) == magic


def _beginning(path: Path, many: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(many)
    except OSError:
        return b""  # who reads it as a profile says what is wrong
