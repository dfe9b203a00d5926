"""``edge-sdk monitor``: on captured boards, in pipes and in a real terminal."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_sdk.report import grafana

SOON_S = 60.0
QUICK = ("--interval", 0.1, "--seconds", 0.3)


@pytest.fixture
def board(captured_board: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes this machine a captured board, for the command in this process and for those that are started."""

    def be(name: str) -> Path:
        root = captured_board(name)
        monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
        return root

    return be


@contextlib.contextmanager
def started(*words: str, **streams: int) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; killed where it is still there."""
    command = [sys.executable, "-m", "edge_sdk", "monitor", *words]
    with subprocess.Popen(command, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("tree", "watts"), [
    ("agx_thor", 28.222), ("agx_orin_jp6", 8.712), ("orin_nano_super_jp6", 4.780),
])  # fmt: skip
def test_json_has_the_right_total_of_a_captured_board(edge_sdk_command, board, tree: str, watts: float) -> None:
    board(tree)
    ran = edge_sdk_command("monitor", *QUICK, "--json")
    assert ran.code == 0
    assert len(ran.lines) == 3
    for record in ran.lines:
        assert record["total"]["power_w"] == pytest.approx(watts, abs=0.01)
        assert record["total"]["method"] == "sensor_total"
        assert record["throttled"] == []
    last = ran.lines[-1]
    assert last["energy_j"] == pytest.approx(last["total"]["power_w"] * last["measured_s"], abs=0.02)
    assert f"mean {watts:.2f} W" in ran.err  # the summary: standard output is JSON alone


def test_a_rail_that_is_part_of_another_is_not_in_the_total(edge_sdk_command, board) -> None:
    board("agx_thor")
    record = edge_sdk_command("monitor", *QUICK, "--json").lines[-1]
    inside = {one["name"]: one["in_total"] for sensor in record["sensors"] for one in sensor["channels"]}
    assert [name for name, in_total in inside.items() if in_total] == ["VIN"]
    assert {"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"} < set(inside)


def test_a_zone_that_is_gated_has_its_reason(edge_sdk_command, board) -> None:
    board("agx_thor")
    zones = edge_sdk_command("monitor", *QUICK, "--json").lines[-1]["temperatures"]
    (gated,) = [zone for zone in zones if zone["temperature_c"] is None]
    assert "EAGAIN" in gated["reason"]


def test_in_a_pipe_there_is_a_line_an_interval_and_one_at_the_end(edge_sdk_command, board) -> None:
    board("agx_thor")
    ran = edge_sdk_command("monitor", *QUICK)
    *lines, summary = ran.out.splitlines()
    assert ran.code == 0
    assert len(lines) == 3
    assert all(re.match(r"0:00:00  28\.22 W \(sensor_total\)  \d+\.\d J  hottest \S+ 55\.1 C", line) for line in lines)
    assert re.fullmatch(r"0:00:00: \d+\.\d J, mean 28\.22 W, from 28\.22 to 28\.22 W \(sensor_total\).*", summary)
    assert ran.err == ""


def test_without_a_sensor_the_rest_is_shown_and_it_says_why(edge_sdk_command, make_tree, monkeypatch) -> None:
    model = {"/proc/device-tree/compatible": "qcom,qcs6490-rb3gen2\0qcom,qcm6490\0", "/proc/stat": "cpu  1 0 0 9 0\n"}
    zone = {"/sys/class/thermal/thermal_zone0/type": "cpu0\n", "/sys/class/thermal/thermal_zone0/temp": "41000\n"}
    monkeypatch.setenv("EDGE_SDK_ROOT", str(make_tree({**model, **zone})))
    ran = edge_sdk_command("monitor", *QUICK)
    first, *others, summary = ran.out.splitlines()
    assert ran.code == 0
    assert "no watts: " in first
    assert "has no sensor of its own power that this version knows; name a meter with --sensor" in first
    assert "hottest cpu0 41.0 C" in first
    assert all("no watts  " in line for line in others)
    assert "no energy: " in summary
    assert "--sensor" in summary


def test_csv_goes_on_in_its_file(edge_sdk_command, board, tmp_path: Path) -> None:
    board("agx_orin_jp6")
    path = tmp_path / "power.csv"
    for _ in range(2):
        assert edge_sdk_command("monitor", *QUICK, "--quiet", "--csv", path).code == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["method"] for row in rows} == {"sensor_total"}
    assert all(float(row["power_w"]) == pytest.approx(8.712, abs=0.01) for row in rows)


def test_csv_of_another_board_is_refused_and_kept(edge_sdk_command, board, tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    board("agx_thor")
    edge_sdk_command("monitor", *QUICK, "--quiet", "--csv", path)
    kept = path.read_bytes()
    board("agx_orin_jp6")
    ran = edge_sdk_command("monitor", *QUICK, "--quiet", "--csv", path)
    assert ran.code == 2
    assert "has other columns than this board" in ran.err
    assert path.read_bytes() == kept


def test_a_crash_leaves_whole_rows(board, tmp_path: Path) -> None:
    board("agx_orin_jp6")
    path = tmp_path / "power.csv"
    with started("--interval", "0.1", "--quiet", "--csv", str(path)) as process:
        wait(lambda: path.exists() and path.read_bytes().count(b"\n") > 3)
        process.send_signal(signal.SIGKILL)
        process.wait(SOON_S)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) > 3
    assert all(line.endswith("\n") for line in lines)
    assert len({len(row) for row in csv.reader(lines)}) == 1


def test_prometheus_asks_and_ctrl_c_ends_it_in_order(board) -> None:
    board("agx_thor")
    words = ("--interval", "0.1", "--quiet", "--prometheus", "127.0.0.1:0")
    with started(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving: http://127.0.0.1:")
        url = urlsplit(line.split()[1])

        def body() -> str:
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=SOON_S)
            connection.request("GET", url.path)
            return connection.getresponse().read().decode()

        wait(lambda: 'edge_sdk_board_power_watts{method="sensor_total"} 28.22' in body())
        assert 'edge_sdk_board_info{board="jetson-agx-thor",version=' in body()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    assert err == "interrupted\n"
    assert "mean 28.22 W" in out
    assert len(out.splitlines()) == 1


class Terminal:
    """A real pseudo-terminal with the command in it."""

    def __init__(self, *words: str, width: int = 80, height: int = 24, kind: str = "xterm-256color") -> None:
        self._ours, theirs = pty.openpty()
        self.resize(width, height)
        command = [sys.executable, "-m", "edge_sdk", "monitor", *words]
        environment = {**os.environ, "TERM": kind}
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal ends with its process
            while select.select([self._ours], [], [], SOON_S)[0] and (data := os.read(self._ours, 65536)):
                self.text += data.decode("utf-8", "replace")

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def end(self) -> int:
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(SOON_S)
        self._reader.join(SOON_S)
        os.close(self._ours)
        return code


def test_in_a_terminal_it_is_a_screen_that_goes_away_and_leaves_a_line(board) -> None:
    board("agx_thor")
    terminal = Terminal("--interval", "0.1")
    wait(lambda: terminal.text.count("28.22 W") > 3)
    before = len(terminal.text)
    terminal.resize(130, 40)
    wait(lambda: "jetson" in terminal.text[before:].lower() and " " * 60 in terminal.text[before:])
    assert terminal.end() == 130
    screen, _, after = terminal.text.rpartition("\x1b[?1049l")  # the alternate screen is left
    assert screen.count("\x1b[?1049h") == 1
    assert "NVIDIA Jetson AGX Thor" in screen
    assert "Rails, + in the total" in screen
    assert "\x1b[?25h" in terminal.text  # the cursor is back
    assert "mean 28.22 W" in after
    assert "interrupted" in after


def test_a_terminal_that_knows_no_codes_gets_lines(board) -> None:
    board("agx_thor")
    terminal = Terminal("--interval", "0.1", kind="dumb")
    wait(lambda: terminal.text.count("28.22 W (sensor_total)") > 3)
    assert terminal.end() == 130
    assert "\x1b" not in terminal.text


def test_the_dashboard_is_printed_as_it_ships(edge_sdk_command) -> None:
    ran = edge_sdk_command("monitor", "--grafana")
    assert ran.code == 0
    assert ran.out == grafana.text()
    assert json.loads(ran.out)["title"] == "Edge SDK: boards and loops"


@pytest.mark.parametrize(("words", "says"), [
    (("--quiet", "--json"), "leave one of them out"),
    (("--sensor", "oracle:delphi"), "oracle: no such sensor; there are "),
    (("--sensor-option", "fit"), "--sensor-option wants KEY=VALUE, not 'fit'"),
    (("--prometheus", "0.0.0.0:0"), "a token is needed: --prometheus-token TOKEN"),
    (("--prometheus", "nine"), "is no address to serve"),
    (("--interval", "0"), "Invalid value for '--interval'"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(edge_sdk_command, board, words: tuple[str, ...], says: str) -> None:
    board("agx_thor")
    ran = edge_sdk_command("monitor", *words)
    assert ran.code == 2
    assert says in ran.err
    assert ran.out == ""


def test_nothing_of_it_is_loaded_before_it_runs() -> None:
    code = "import sys; from edge_sdk.cli import build; build(); print('rich' in sys.modules, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON_S, check=True)
    assert ran.stdout == "False False\n"


def wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON_S
    while not done():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
