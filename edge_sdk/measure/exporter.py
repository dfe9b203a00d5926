"""What a board draws and does, for Prometheus: the metrics, and the server that they are asked from.

The names begin with ``edge_sdk_board_``; those of a camera's loop (`edge_sdk.sinks.metrics`) do not. Units are
Prometheus' base units: W, J, °C, Hz, bytes, ratios. What has no value is not there: never 0 in its place. Why it has
none is told by ``edge-sdk monitor``, not here: a label that may hold anything makes a new series each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edge_sdk import __version__
from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint
from edge_sdk.measure.watch import Snapshot, printable
from edge_sdk.measure.watch_record import unique
from edge_sdk.result import Reading
from edge_sdk.sinks.http_guard import Guard, check_token, json_answer
from edge_sdk.sinks.http_server import Connections, Server, is_loopback, listen, split_address

PREFIX = "edge_sdk_board_"
ANY = "any"
"""Value of the label ``cause`` for "throttled by whatever cause"."""

_MOST_CLIENTS = 16
_MIB = 1 << 20
_NO_PAGE = json_answer(404, {"error": "there is /metrics"})
_FRONT = ("", b"", "")  # no page asks for the token: who asks is a program


class PowerCollector:
    """The newest snapshot for a `prometheus_client` registry; it is taken anew at each scrape.

    Args:
        snapshot: Gives it, such as `Watch.snapshot`; called in the thread that scrapes.
        board: Name of the target.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self, snapshot: Callable[[], Snapshot], board: str) -> None:
        _prometheus()
        self._snapshot = snapshot
        self._board = printable(board)

    def describe(self) -> list[Any]:
        """Nothing: a registry need not scrape in order to know the names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yields one metric family after the other; one that has no value is left out."""
        snapshot = self._snapshot()
        for family in (*self._power(snapshot), *_conditions(snapshot)):
            if family.samples:
                yield family

    def _power(self, snapshot: Snapshot) -> Iterator[Any]:
        info = _gauge("info", "Which board this is, by its name in Edge SDK's tables.", "board", "version")
        info.add_metric([self._board, __version__], 1)
        yield info
        total = _gauge("power_watts", "Power of the board; the label method says how it came about.", "method")
        _add(total, [snapshot.total.method or ""], snapshot.total.value)
        yield total
        text = "Energy since the monitor began, over the time that had values; the label method is of the whole."
        method: list[str] = [snapshot.energy_method or ""]
        energy = _counter("energy_joules", text, "method")
        _add(energy, method, snapshot.energy_j)
        yield energy
        measured = _counter("measured_seconds", "Time for which energy_joules_total stands.", "method")
        _add(measured, method, None if snapshot.energy_j is None else snapshot.measured_s)
        yield measured
        gaps = _counter("power_gaps", "Stretches without a value of power, after the first value.")
        _add(gaps, [], None if snapshot.energy_j is None else snapshot.gaps)
        yield gaps
        yield from _rails(snapshot)


class MetricsServer:
    """Serves ``/metrics`` until it is closed.

    It is the SDK's own server rather than the one of prometheus-client, which waits for any client for ever: a client
    here may be slow, silent or hostile.

    Args:
        address: Host and port; port 0 is any that is free, and `url` tells which.
        collector: What is served.
        token: What a client must then show, as ``Authorization: Bearer TOKEN``; 16 characters or more. It travels as
            plain text.

    Attributes:
        url: Of the metrics.

    Raises:
        UsageError: The address is beyond this machine and there is no token, or an argument makes no sense.
        SinkError: The address is in use, or cannot be served.
        MissingDependencyError: Uvicorn is not installed.
    """

    def __init__(self, address: str, collector: PowerCollector, token: str | None = None) -> None:
        host, port = split_address(address)
        if token is not None:
            check_token(token)
        _check_installed()
        self._collector = collector
        listener = listen(host, port)
        try:
            bound = listener.getsockname()
            if token is None and not is_loopback(bound[0]):
                raise UsageError(
                    f"{address} is open to the network, so a token is needed: --prometheus-token TOKEN, of 16 "
                    "characters or more, and Prometheus' setting 'authorization'; 127.0.0.1 is for this machine alone"
                )
            self.url = f"http://{f'[{host}]' if ':' in host else host}:{bound[1]}/metrics"
            guard = Guard(self._answer, token=token, host=host, open_paths=(), front=_FRONT)
            self._server = Server(guard, listener, Connections(_MOST_CLIENTS))
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        """Ends the server; may be called twice.

        Raises:
            SinkError: It does not end.
        """
        self._server.close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        app = self._metrics if scope["path"] == "/metrics" else _NO_PAGE
        await app(scope, receive, send)

    async def _metrics(self, scope: Any, receive: Any, send: Any) -> None:
        body, kind = exposition(self._collector)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def exposition(collector: PowerCollector) -> tuple[bytes, str]:
    """Prometheus' text exposition format, UTF-8, and its content type."""
    client = _prometheus()
    registry = client.CollectorRegistry()
    registry.register(collector)
    return client.generate_latest(registry), client.CONTENT_TYPE_LATEST


def _rails(snapshot: Snapshot) -> Iterator[Any]:
    text = "Power of one rail; rails with in_total=false are a part of others, or beside the total."
    watts = _gauge("rail_power_watts", text, "sensor", "rail", "method", "in_total")
    up = _gauge("sensor_up", "Whether a sensor gives any value now.", "sensor")
    took = _gauge("sensor_read_seconds", "What the newest read of a sensor took.", "sensor")
    names = unique(sensor.name for sensor in snapshot.sensors)
    for name, sensor in zip(names, snapshot.sensors, strict=True):
        rails = unique(reading.name for reading in sensor.readings)
        for rail, reading, in_total in zip(rails, sensor.readings, sensor.in_total, strict=True):
            _add(watts, [name, rail, reading.method or "", str(in_total).lower()], reading.value)
        _add(up, [name], float(sensor.up))
        _add(took, [name], None if sensor.read_ms is None else sensor.read_ms / 1000)
    yield from (watts, up, took)


def _conditions(snapshot: Snapshot) -> Iterator[Any]:
    now = snapshot.conditions
    yield _readings("temperature_celsius", "Temperature of a zone.", "zone", now.temperatures, 1.0)
    yield _readings("clock_hertz", "Clock: measured where that may be read, else asked for.", "clock", now.clocks, 1e6)
    yield _readings("load_ratio", "Load of a unit, 0 to 1.", "unit", now.loads, 0.01)
    memory = _gauge("memory_bytes", "Main memory: total and available; and swap_used beside it.", "kind")
    if now.memory is not None:
        memory.add_metric(["total"], now.memory.total_mib * _MIB)
        memory.add_metric(["available"], now.memory.available_mib * _MIB)
        memory.add_metric(["swap_used"], now.memory.swap_used_mib * _MIB)
    yield memory
    text = (
        f"1 for a cause that throttles the board now; {ANY} is 1 where there is one. Other causes are told once seen."
    )
    throttled = _gauge("throttled", text, "cause")
    if now.throttling is not None:
        throttled.add_metric([ANY], float(bool(now.throttling)))
        for cause in dict.fromkeys((*snapshot.throttled, *now.throttling)):
            if cause != ANY:
                throttled.add_metric([cause], float(cause in now.throttling))
    yield throttled
    mode = _gauge("power_mode_info", "The power mode that the board is in.", "mode")
    if now.power_mode is not None:
        mode.add_metric([now.power_mode.name], 1)
    yield mode


def _readings(name: str, text: str, label: str, readings: Iterable[Reading], factor: float) -> Any:
    family = _gauge(name, text, label)
    readings = tuple(readings)
    for one, reading in zip(unique(reading.name for reading in readings), readings, strict=True):
        _add(family, [one], None if reading.value is None else reading.value * factor)
    return family


def _add(family: Any, labels: list[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, value)


def _gauge(name: str, text: str, *labels: str) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"{PREFIX}{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> Any:
    """Its samples' names end with "_total", by the library."""
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"{PREFIX}{name}", text, labels=labels)


def _prometheus() -> Any:
    try:
        import prometheus_client
    except ImportError as error:
        raise MissingDependencyError(f"prometheus-client is not installed: {extra_hint('http')}") from error
    return prometheus_client


def _check_installed() -> None:
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"Uvicorn is not installed: {extra_hint('http')}") from error
