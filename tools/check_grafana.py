"""Does the Grafana dashboard show something? Every query of every panel is asked of a real Prometheus.

    sudo apt install prometheus && sudo systemctl disable --now prometheus     # the binaries alone are needed
    python tools/check_grafana.py                  # a minute: 40 s of scraping
    pip install grafana-foundation-sdk             # then the file is also read and written by Grafana's own model

Two simulated boards, a Jetson AGX Thor and a PC, are watched by ``edge-sdk monitor --prometheus``, and scripted figures
of a live loop are served as `HttpSink` serves them; Prometheus scrapes the three once a second, on loopback. Then
``promtool check metrics`` reads what each serves, and each query must give series that have values. It does not start
Grafana, and so does not see a panel drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edge_sdk.measure.clock import SystemClock
from edge_sdk.measure.running import PowerStats
from edge_sdk.pipeline.books import DROP_CAUSES, Books, Stats
from edge_sdk.report import grafana
from edge_sdk.result import Reading, Timing
from edge_sdk.sinks.metrics import MetricsCollector, text
from edge_sdk.testing.simulated_board import Kind, Load, SimulatedBoard

READY_S = 60.0
CAMERA = "rtsp://camera.example/door"


# --- what is scraped --------------------------------------------------------------------------


@contextmanager
def board(kind: Kind, folder: Path) -> Iterator[str]:
    """A simulated board that works, rests and throttles in turn, watched by the command; yields where it serves."""
    with SimulatedBoard(folder, SystemClock(), kind, Load(latency_s=0.1)) as simulated, over() as ended:
        furnish(simulated)
        worker = threading.Thread(target=live, args=(simulated, ended), daemon=True)
        worker.start()
        try:
            with monitor(folder) as address:
                yield address
        finally:
            ended.set()
            worker.join()


@contextmanager
def over() -> Iterator[threading.Event]:
    """An event that is set at the end, whatever happens."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


def furnish(simulated: SimulatedBoard) -> None:
    """What the simulated board has no need of otherwise."""
    simulated.write(
        "/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 5000000 kB\nSwapTotal: 100 kB\nSwapFree: 0 kB\n"
    )
    simulated.write("/proc/stat", stat(0, 0))
    simulated.write("/sys/firmware/acpi/platform_profile", "balanced\n")
    simulated.write("/sys/firmware/acpi/platform_profile_choices", "low-power balanced performance\n")
    for number in range(4):
        folder = f"/sys/devices/system/cpu/cpufreq/policy{number}"
        simulated.write(f"{folder}/scaling_cur_freq", 1_500_000)
        simulated.write(f"{folder}/scaling_governor", "schedutil\n")
        simulated.write(f"{folder}/cpuinfo_max_freq", 2_000_000)


def stat(busy: int, idle: int) -> str:
    """/proc/stat, as wide as it was before."""
    return f"cpu  {busy:010} 0 0 {idle:010} 0 0 0 0 0 0\n"


def live(simulated: SimulatedBoard, ended: threading.Event) -> None:
    """Ten seconds each: five of work, throttled at their end, and a short time without values."""
    began, busy, idle = time.monotonic(), 0, 0
    while not ended.is_set():
        phase = (time.monotonic() - began) % 10
        working = phase < 5
        busy, idle = busy + 8 * working + 2, idle + 8 * (not working) + 2
        simulated.write("/proc/stat", stat(busy, idle))
        simulated.write("/sys/class/thermal/thermal_zone0/temp", 50_000 + int(3000 * phase))
        simulated.throttle(3.5 < phase < 5)
        if 8 < phase < 9:
            simulated.break_sensor()
        else:
            simulated.mend_sensor()
        if working:
            simulated.infer()
        else:
            ended.wait(0.1)


@contextmanager
def monitor(root: Path) -> Iterator[str]:
    """``edge-sdk monitor`` of a tree; yields host and port."""
    command = ["monitor", "--interval", "0.5", "--quiet", "--prometheus", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_sdk", *command],
        env={**os.environ, "EDGE_SDK_ROOT": str(root)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if not line.startswith("serving: "):
            sys.exit(f"the monitor did not start: {line}{process.stderr.read()}")
        yield urllib.parse.urlsplit(line.split()[1]).netloc
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@contextmanager
def loop() -> Iterator[str]:
    """Figures of a live loop, scripted; yields host and port."""
    books = Books()

    def stats() -> Stats:
        for number in range(20):
            books.captured()
            if number < 15:
                books.processed(Timing(2.0, 3.0, 20.0 + number, 1.0, 26.0 + number))
            else:
                books.dropped(DROP_CAUSES[number % len(DROP_CAUSES)])
        found = books.stats()
        latest = Reading("board", 9.5, "w", "sensor_total", time.monotonic_ns())
        energy_j = found.processed * 0.4
        power = PowerStats(found.captured / 30, energy_j, 9.5, "sensor_total", None, 100, 0.0, latest=latest)
        return replace(found, state="streaming", energy=power)

    collector = MetricsCollector(stats, CAMERA)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, kind = text(collector)
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as the class above has it
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# --- who scrapes ------------------------------------------------------------------------------


@contextmanager
def prometheus(targets: dict[str, list[str]], folder: Path) -> Iterator[str]:
    """A Prometheus of our own; yields its URL."""
    jobs = "\n".join(
        f"  - job_name: {name}\n    static_configs: [{{targets: {json.dumps(addresses)}}}]"
        for name, addresses in targets.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / "prometheus.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address={address}", "--log.level=warn"],
            stdout=file, stderr=file,
        )  # fmt: skip
    try:
        until = time.monotonic() + READY_S
        while not answers(f"http://{address}/-/ready"):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"Prometheus did not start:\n{log.read_text()}")
            time.sleep(0.2)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(url: str) -> bool:
    """Whether a URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  http on loopback
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, path: str, **values: str) -> Any:
    """The data of an answer of Prometheus' HTTP API."""
    query = urllib.parse.urlencode(values)
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=30) as answer:  # noqa: S310  http on loopback
        return json.load(answer)["data"]


# --- what is asked ----------------------------------------------------------------------------


def filled(expression: str, seconds: int) -> str:
    """A query with the dashboard's variables at "All"."""
    values = {"__rate_interval": "8s", "__range": f"{seconds}s", "instance": ".*", "loop": ".*", "camera": ".*"}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def check_panels(url: str, dashboard: dict[str, Any], seconds: int) -> int:
    """Prints what each query gives; how many give nothing."""
    now, empty = time.time(), 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = filled(target["expr"], seconds)
            found = ask(url, "query_range", query=query, start=str(now - seconds), end=str(now), step="1")["result"]
            values = [float(value) for series in found for _, value in series["values"]]
            real = [value for value in values if value == value]  # noqa: PLR0124  not NaN
            empty += not real
            span = f"{min(real):g} to {max(real):g}" if real else "NOTHING"
            print(f"{panel['title']:<46.46} {target['refId']} {len(found):>3} series {len(real):>5} values  {span}")
    return empty


def check_variables(url: str, dashboard: dict[str, Any]) -> int:
    """Prints the values of each variable; how many have none."""
    empty = 0
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None, variable["query"]
        values = ask(url, f"label/{found[2]}/values", **{"match[]": filled(found[1], 0)})
        empty += not values
        print(f"${variable['name']:<45} {', '.join(values) or 'NOTHING'}")
    return empty


def check_lint(addresses: dict[str, list[str]]) -> None:
    """Prints what promtool says of each."""
    for name, several in addresses.items():
        for address in several:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                body = answer.read()
            ran = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
            said = (ran.stdout + ran.stderr).decode().strip()
            print(f"promtool check metrics, {name} at {address}: {said or 'fine'} (exit {ran.returncode})")


def check_model(dashboard: dict[str, Any]) -> int:
    """Has Grafana's own model read the file and write it again; how many values did not come through."""
    try:
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.cog.plugins import register_default_plugins
        from grafana_foundation_sdk.models.dashboard import Dashboard
    except ImportError:
        print("not read by Grafana's own model: pip install grafana-foundation-sdk")
        return 0
    register_default_plugins()
    lost = list(differences(dashboard, json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))))
    print(f"read and written by Grafana's own model: {', '.join(lost) or 'everything came through'}")
    return len(lost)


def differences(here: Any, there: Any, path: str = "") -> Iterator[str]:
    """Where what was written lacks something, or has something else."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key, value in here.items():
            if value is not None:  # an id of null: Grafana gives it one
                yield from differences(value, there.get(key), f"{path}/{key}")
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, (one, other) in enumerate(zip(here, there, strict=True)):
            yield from differences(one, other, f"{path}/{number}")
    elif here != there and (here or there):
        yield path


def main() -> None:
    """Runs it all; exit code 1 where something gives nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=40, help="of scraping")
    seconds = parser.parse_args().seconds
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: apt install prometheus")
    dashboard = json.loads(grafana.text())
    enter: Callable[[Any], Any]
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory()))
        kinds: tuple[Kind, ...] = ("jetson-agx-thor", "generic-x86_64")
        for kind in kinds:
            (folder / kind).mkdir()
        targets = {"boards": [enter(board(kind, folder / kind)) for kind in kinds], "loop": [enter(loop())]}
        url = enter(prometheus(targets, folder))
        print(f"scraping for {seconds} s ...", flush=True)
        time.sleep(seconds)
        check_lint(targets)
        empty = check_variables(url, dashboard) + check_panels(url, dashboard, seconds)
    lost = check_model(dashboard)
    print("every query gives values" if not empty else f"{empty} give NOTHING")
    sys.exit(1 if empty or lost else 0)


if __name__ == "__main__":
    main()
