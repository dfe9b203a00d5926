"""``edge-sdk profile``: latency, power and energy per inference."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.cli import shared
from edge_sdk.errors import SinkError, UsageError, one_line

if TYPE_CHECKING:
    from edge_sdk.measure.recipe import Progress, Recipe
    from edge_sdk.measure.record import Profile
    from edge_sdk.report.page import Page


_RING_BYTES = 64 << 20  # more than an hour of any board's sensors takes


def command(
    model: str = typer.Argument(None, help=shared.MODEL_HELP),
    image: Path = typer.Option(None, "--image", help="Photo to detect in; left out: noise of 1280x720."),
    sensor: str = typer.Option(
        None, "--sensor", metavar="NAME[:ADDRESS]", help="A meter in place of the board's own: see 'edge-sdk devices'."
    ),
    sensor_option: list[str] = typer.Option(
        None, "--sensor-option", metavar="KEY=VALUE", help="For the sensor: fit=published; may be repeated."
    ),
    repeats: int = typer.Option(3, "--repeats", min=2, help="Work windows; fewer than 3 are a trial."),
    work: float = typer.Option(10.0, "--work", min=0.1, help="Seconds of a work window, and 50 sensor refreshes."),
    idle: float = typer.Option(10.0, "--idle", min=0.1, help="Seconds of an idle window, and 50 sensor refreshes."),
    settle: float = typer.Option(3.0, "--settle", min=0.1, help="Seconds before an idle window."),
    power_modes: str = typer.Option(
        None, "--power-modes", metavar="all|NAME,NAME", help="Profile in each power mode, and put the board back."
    ),
    out: Path = typer.Option(
        None, "--out", help="Folder for the profile, its page and tables; a walk of power modes goes on from it."
    ),
    html: Path = typer.Option(None, "--html", help="Write the report, one page that needs nothing else."),
    csv: Path = typer.Option(None, "--csv", help="Write samples and latencies as tables into this folder."),
    layers: bool = typer.Option(True, "--layers/--no-layers", help="Also the time of each layer."),
    backend: str = shared.backend_option,
    threads: int = shared.threads_option,
    head: str = shared.head_option,
    card: Path = shared.card_option,
    option: list[str] = shared.option_option,
    as_json: bool = shared.json_option,
) -> None:
    """Measure latency, power and energy per inference.

    Settle, idle, work, idle again, three times over: about a minute and a half. Gross energy is all that the board
    drew, net is less its idle power; both come with a 95 % interval, or with the reason why there is none. Without a
    power sensor latency alone is measured.

    Example: edge-sdk profile yolox_nano.onnx --html report.html
    """
    from edge_sdk.measure.recipe import Recipe
    from edge_sdk.report.text import summary

    recipe = Recipe(settle, idle, work, repeats)
    settings = {
        "sensor": sensor,
        "sensor_options": shared.parse_options(sensor_option, "--sensor-option"),
        "layers": layers,
        "backend": backend,
        "threads": threads,
        "head": head,
        "card": card,
        "options": shared.parse_options(option),
    }
    _check_outputs(out, html, csv, power_modes)
    request = {
        **settings,
        "sensor": _without_password(sensor),
        "image": None if image is None else str(image.absolute()),
        "recipe": asdict(recipe),
    }
    if image is not None:
        from edge_sdk.sources.files import read_photo

        settings["image"] = read_photo(image)
    if power_modes:
        _walk(model, power_modes, recipe, settings, request, out, html, as_json)
        return
    found = _measure(model, recipe, settings, "profile")
    # Said before it is written: a disk that is full by now must not cost the measurement.
    if as_json:
        shared.print_json(found.record())
    else:
        typer.echo(summary(found))
    _write(found, out, html, csv)
    if not as_json:
        _say_where(out, html, csv)


def _check_outputs(out: Path | None, html: Path | None, csv: Path | None, power_modes: str | None) -> None:
    """What cannot be written is said before a measurement of minutes, not after it."""
    from importlib.util import find_spec

    from edge_sdk.errors import MissingDependencyError, extra_hint

    if power_modes and csv is not None:
        raise UsageError("--csv is of one profile: a walk through power modes writes the tables of each into --out")
    for name, folder in (("--out", out), ("--csv", csv)):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{name} {folder}: it takes a folder, and a file is there") from error
        except OSError as error:
            raise SinkError(f"{folder}: cannot be made: {error.strerror}") from error
    for place in filter(None, (out, csv, None if html is None else html.parent)):
        if not os.access(place, os.W_OK | os.X_OK):
            why = "no permission to write there" if place.is_dir() else "there is no such folder"
            raise SinkError(f"{place}: {why}")
    if html is not None:
        if html.is_dir():
            raise UsageError(f"--html {html}: it takes a file, and a folder is there; --out takes a folder")
        if find_spec("plotly") is None:
            raise MissingDependencyError(f"plotly is not installed, which draws plots: {extra_hint('report')}")


def _measure(model: str | None, recipe: Recipe, settings: Mapping[str, Any], label: str) -> Profile:
    """One profile, with progress; its samples are on the disk meanwhile, in case the process dies."""
    from edge_sdk.measure.profile import default_ring, leftover_rings, profile

    for left in leftover_rings():
        typer.echo(
            f"a profile was interrupted; its samples are in {left}: edge-sdk report {left} shows them; delete it then",
            err=True,
        )
    ring = default_ring()
    why_not = _why_no_ring(ring.parent)
    if why_not is not None:
        typer.echo(f"samples are not kept for the case of a crash: {why_not}", err=True)
    with _progress(label) as tell:
        found = profile(model, recipe=recipe, ring=None if why_not else ring, progress=tell, **settings)
    if why_not is None:
        ring.unlink(missing_ok=True)
    return found


def _why_no_ring(folder: Path) -> str | None:
    """Why the samples cannot be kept in this folder, which is made; None where they can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder}: {error.strerror or one_line(error)}"
    return None if free > _RING_BYTES else f"{folder}: less than {_RING_BYTES >> 20} MiB are free"


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """A bar on standard error that says what is done: a minute and a half of silence looks like a hang."""
    import sys

    if not sys.stderr.isatty():
        yield lambda _part, _doing: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shared.console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda part, doing: bar.update(task, completed=part, description=f"{label}: {doing}")


def _write(found: Profile, out: Path | None, html: Path | None, csv: Path | None, name: str = "profile") -> None:
    """The files that were asked for; the JSON first, for the others can be made of it again."""
    from edge_sdk.report.read import write_profile

    if out is not None:
        write_profile(found, out / f"{name}.json")
    if html is not None or out is not None:
        from edge_sdk.report.profile_page import profile_page

        _save_page(profile_page(found), html, out, f"{name}.html")
    folder = csv if csv is not None else out / f"{name}-csv" if out is not None else None
    if folder is not None:
        from edge_sdk.report.table import write_csv

        write_csv(found, folder)


def _save_page(page: Page, html: Path | None, out: Path | None, name: str) -> None:
    """The page where it was asked for, and in the folder; there it is left out where it cannot be drawn."""
    from edge_sdk.errors import MissingDependencyError

    if html is not None:
        page.save(html)
    if out is not None:
        try:
            page.save(out / name)
        except MissingDependencyError as error:
            typer.echo(f"no page in {out}: {error}", err=True)


def _say_where(out: Path | None, html: Path | None, csv: Path | None) -> None:
    for title, path in (("profile, page and tables", out), ("page", html), ("tables", csv)):
        if path is not None:
            typer.echo(f"{title}: {path}")


def _walk(
    model: str | None, wanted: str, recipe: Recipe, settings: Mapping[str, Any], request: Mapping[str, Any],
    out: Path | None, html: Path | None, as_json: bool,
) -> None:  # fmt: skip
    from edge_sdk.conditions.power_mode import PowerModes
    from edge_sdk.measure.power_modes import front, walk

    modes = PowerModes()
    names = () if wanted == "all" else tuple(name.strip() for name in wanted.split(",") if name.strip())

    def measure(mode: str) -> Profile:
        found = _measure(model, recipe, settings, mode)
        if out is not None:
            _write(found, out, None, None, _file_name(mode))
        return found

    kept = _kept(out, [mode.name for mode in modes.available()], model, request) if out is not None else {}
    for mode in kept:
        typer.echo(f"{mode}: kept from an earlier run in {out}", err=True)
    profiles = walk(modes, names, measure, kept)
    best = front(profiles)
    if html is not None or out is not None:
        from edge_sdk.report.comparison_page import comparison_page

        _save_page(comparison_page(tuple(profiles.values())), html, out, "power-modes.html")
    if as_json:
        shared.print_json({"front": list(best), "modes": {mode: one.record() for mode, one in profiles.items()}})
        return
    _print_front(profiles, best)
    _say_where(out, html, None)


def _without_password(sensor: str | None) -> str | None:
    """A meter's name as it may be stored; what is before the @ of a serial port is no user."""
    driver, colon, address = (sensor or "").partition(":")
    return sensor if driver == "serial" or "@" not in address else f"{driver}{colon}{address.rpartition('@')[2]}"


def _file_name(mode: str) -> str:
    """A mode's name as a file's."""
    return "mode-" + "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in mode)


def _kept(out: Path, modes: list[str], model: str | None, request: Mapping[str, Any]) -> dict[str, Profile]:
    """Profiles in the folder that stand, of this model, in that mode, and asked for in the very same words.

    Another backend, meter or recipe gives other figures: these are measured anew. What was asked for is kept in the
    folder too.
    """
    import json

    from edge_sdk.detector import find_model
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.files import replacing
    from edge_sdk.measure.profile import sha256
    from edge_sdk.report.read import read_profile

    digest = sha256(find_model(model, request["backend"]))
    asked = out / "power-modes-request.json"
    words = json.dumps({"model": digest, **request}, indent=2, default=str) + "\n"
    same = asked.is_file() and asked.read_text("utf-8", "replace") == words
    if not same:
        with replacing(asked) as temporary:
            temporary.write_text(words, "utf-8")
        return {}
    kept = {}
    for mode in modes:
        try:
            found = read_profile(out / f"{_file_name(mode)}.json")
        except EdgeSdkError:
            continue
        stands = found.energy is None or not found.energy.rejected
        if found.model.get("sha256") == digest and found.device.get("power_mode") == mode and stands:
            kept[mode] = found
    return kept


def _print_front(profiles: Mapping[str, Profile], best: tuple[str, ...]) -> None:
    from rich.table import Table

    table = Table("power mode", "p50 ms", "p99 ms", "gross mJ", "net mJ", "work W", "method", "nobody beats it")
    for mode, found in profiles.items():
        ms, energy = found.latency.percentiles_ms, found.energy
        figures = [f"{ms['p50']:.2f}", f"{ms['p99']:.2f}"]
        for figure in (energy.gross_mj, energy.net_mj, energy.work_w) if energy is not None else (None, None, None):
            figures.append("-" if figure is None else f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})")
        table.add_row(mode, *figures, "-" if energy is None else energy.method, "yes" if mode in best else "")
    shared.console().print(table)
    for mode, found in profiles.items():
        energy = found.energy
        reasons = [found.energy_reason] if energy is None else [*energy.rejected, energy.net_refused]
        for reason in filter(None, reasons):
            typer.echo(f"{mode}: {reason}")
