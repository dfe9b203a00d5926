"""``edge-sdk monitor``: what the board draws and does now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.cli import ending
from edge_sdk.errors import UsageError

if TYPE_CHECKING:
    from edge_sdk.measure.watch import Snapshot, Watch
    from edge_sdk.measure.watch_view import Head

_SLICE_S = 0.1  # within which a signal is seen
# After each interval the sensors get this long for their read, so that what is shown is new.
_READ_S = 0.1
_SETTLE_S = 5.0  # at most, until everything was read once
_LOOK_S = 0.01

Take = Callable[["Snapshot"], None]


def command(
    interval: float = typer.Option(1.0, "--interval", min=0.1, max=3600.0, help="Seconds between two reads."),
    seconds: float = typer.Option(None, "--seconds", min=0.1, help="Stop after this long; left out: at Ctrl-C."),
    sensor: str = typer.Option(
        None, "--sensor", metavar="NAME[:ADDRESS]", help="What gives the total: a meter, such as shelly:192.168.1.20."
    ),
    sensor_option: list[str] = typer.Option(
        None, "--sensor-option", metavar="KEY=VALUE", help="For the driver of the total; may be repeated."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object an interval."),
    csv: Path = typer.Option(None, "--csv", help="Append a row an interval to this file."),
    prometheus: str = typer.Option(
        None, "--prometheus", metavar="HOST:PORT", help="Serve /metrics for Prometheus: 127.0.0.1:9180."
    ),
    prometheus_token: str = typer.Option(
        None,
        "--prometheus-token",
        envvar="EDGE_SDK_PROMETHEUS_TOKEN",
        help="What Prometheus must show; needed beyond this machine (--prometheus 0.0.0.0:9180).",
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show nothing but the summary, as for a service."),
    grafana: bool = typer.Option(False, "--grafana", help="Instead: print a Grafana dashboard for these metrics."),
) -> None:
    """Show power, temperatures, clocks, load and throttling, live.

    In a pipe it prints a line an interval. It is for looking on; 'edge-sdk profile' measures.

    Example: edge-sdk monitor --csv power.csv
    """
    if grafana:
        from edge_sdk.report import grafana as dashboard

        typer.echo(dashboard.text(), nl=False)
        return
    if quiet and as_json:
        raise UsageError("--quiet prints nothing, and --json prints: leave one of them out")
    from edge_sdk.conditions.reader import ConditionsReader
    from edge_sdk.device import this_device
    from edge_sdk.measure.watch import Watch
    from edge_sdk.measure.watch_view import Head
    from edge_sdk.measure.watch_words import summary_of
    from edge_sdk.sensors.power import open_power

    target = this_device().target
    takes: list[Take] = []
    outputs: list[str] = []
    with ExitStack() as stack:
        power = stack.enter_context(open_power(sensor, options=_options(sensor_option), target=target))
        reader = stack.enter_context(ConditionsReader())
        if csv is not None:
            takes.append(_csv(csv, stack))
            outputs.append(f"CSV: {csv}")
        watch = stack.enter_context(Watch(power, reader.read, interval_s=interval))
        if prometheus is not None:
            url = _serve(prometheus, prometheus_token, watch, target.name, stack)
            outputs.append(url)
            typer.echo(f"serving: {url}", err=True)
        head = Head(target.label, power.covers, tuple(outputs), interval)
        stop = _Stop()
        with ending.gracefully(stop.ask):
            with ExitStack() as shown:
                if as_json:
                    takes.append(_json(target.name, power.covers))
                elif not quiet:
                    takes.append(_screen(head, watch, shown, stop))
                for snapshot in _moments(watch, interval, seconds, stop):
                    for take in takes:
                        take(snapshot)
            # Before what is still read is waited for: a meter may take its time.
            typer.echo(summary_of(watch.snapshot()), err=as_json)


class _Stop:
    """Whether somebody asked for the end (asking touches no lock), and what is done while that is waited for."""

    def __init__(self) -> None:
        self.asked = False
        self.meanwhile: Callable[[], None] = lambda: None

    def ask(self) -> None:
        self.asked = True

    def sleep_until(self, due: float) -> bool:
        """Waits till then or till somebody asks; whether it is to go on."""
        while not self.asked and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_S))
            self.meanwhile()
        return not self.asked


def _moments(watch: Watch, interval: float, seconds: float | None, stop: _Stop) -> Iterator[Snapshot]:
    """A snapshot after each interval; where one took longer, those that it was too late for are left out.

    It begins when everything was read once: what is missing from the first would have no column in a CSV file.
    """
    patience = time.monotonic() + _SETTLE_S
    while not watch.settled and time.monotonic() < patience:
        if not stop.sleep_until(time.monotonic() + _LOOK_S):
            return
    began = time.monotonic()
    end = None if seconds is None else began + seconds
    due = began
    while True:
        now = time.monotonic()
        due += interval * max(1, int((now - due) / interval) + 1)
        moment = due + min(_READ_S, interval / 5)
        last = end is not None and due >= end - interval / 100
        if last and end is not None:
            moment = max(end, min(moment, end + _READ_S))
        if not stop.sleep_until(moment):
            return
        yield watch.snapshot()
        if last:
            return


def _csv(path: Path, stack: ExitStack) -> Take:
    from edge_sdk.measure.watch_record import CsvLog

    log = stack.enter_context(CsvLog(path))
    return lambda snapshot: log.write(snapshot, time_s=time.time())


def _json(board: str, covers: str | None) -> Take:
    import json

    from edge_sdk.measure.watch_record import as_record

    def show(snapshot: Snapshot) -> None:
        typer.echo(json.dumps(as_record(snapshot, board=board, covers=covers, time_s=time.time())))
        sys.stdout.flush()

    return show


def _serve(address: str, token: str | None, watch: Watch, board: str, stack: ExitStack) -> str:
    from edge_sdk.measure.exporter import MetricsServer, PowerCollector

    return stack.enter_context(MetricsServer(address, PowerCollector(watch.snapshot, board), token)).url


def _screen(head: Head, watch: Watch, shown: ExitStack, stop: _Stop) -> Take:
    """The live screen, or lines where standard output is none that can be drawn on."""
    from rich.console import Console

    from edge_sdk.measure.watch_words import line_of

    console = Console(file=sys.stdout, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return _live(console, head, watch, shown, stop)
    before: Snapshot | None = None

    def show(snapshot: Snapshot) -> None:
        nonlocal before
        typer.echo(line_of(snapshot, before))
        sys.stdout.flush()
        before = snapshot

    return show


def _live(console: Any, head: Head, watch: Watch, shown: ExitStack, stop: _Stop) -> Take:
    from rich.live import Live

    from edge_sdk.measure.watch_view import View

    view = View(head, watch.snapshot())
    live = shown.enter_context(Live(view, console=console, screen=True, auto_refresh=False, redirect_stderr=False))
    size = console.size

    def look() -> None:
        """Draws anew for a terminal that changed its size."""
        nonlocal size
        if console.size != size:
            size = console.size
            live.refresh()

    stop.meanwhile = look

    def show(snapshot: Snapshot) -> None:
        view.show(snapshot)
        live.refresh()

    return show


def _options(pairs: list[str] | None) -> dict[str, str]:
    options = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--sensor-option wants KEY=VALUE, not {pair!r}")
        options[key] = value
    return options
