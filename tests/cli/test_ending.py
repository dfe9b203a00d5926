"""Signals at any moment: what was recorded plays, nothing half written stays, and the process is gone soon."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edge_sdk.cli import ending

SOON_S = 60.0
# The promise is 2 s; machines that run tests are busy.
PROMISE_S, BUSY_S = 2.0, 6.0


def send(number: int) -> None:
    signal.raise_signal(number)


def code_of(run: Callable[[], None]) -> object:
    """What a run under the handlers exits with; None where it does not."""
    try:
        with ending.in_order():
            run()
    except SystemExit as stopped:
        return stopped.code
    return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_a_run_a_signal_raises_at_once(number: int) -> None:
    assert code_of(lambda: send(number)) == 128 + number


def test_during_a_run_the_first_signal_asks_it_to_stop_and_the_exit_follows_at_its_end() -> None:
    told: list[str] = []

    def run() -> None:
        with ending.gracefully(lambda: told.append("stop")):
            send(signal.SIGTERM)
            told.append("ran on")

    assert code_of(run) == 143
    assert told == ["stop", "ran on"]


def test_a_second_signal_does_not_wait_for_the_run() -> None:
    told: list[str] = []

    def run() -> None:
        with ending.gracefully(lambda: None):
            send(signal.SIGINT)
            send(signal.SIGINT)
            told.append("ran on")

    assert code_of(run) == 130
    assert told == []


def test_a_signal_that_somebody_caught_before_the_run_ends_it_before_it_begins() -> None:
    """A package that is imported may catch everything."""
    told: list[str] = []

    def run() -> None:
        with contextlib.suppress(BaseException):
            send(signal.SIGINT)
        with ending.gracefully(lambda: None):
            told.append("began")

    assert code_of(run) == 130
    assert told == []


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with ending.in_order():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("seed", range(6))
def test_at_any_moment_of_a_recording_a_signal_leaves_a_clip_that_plays(yolox: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  moments, not secrets
    clip, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    command = ["detect", "demo", "--model", str(yolox), "--save", str(clip), "--jsonl", str(lines), "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_sdk", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    time.sleep(chance.uniform(0.1, 3.0))
    process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
    began = time.monotonic()
    _, said = process.communicate(timeout=SOON_S)
    assert time.monotonic() - began < PROMISE_S + BUSY_S
    assert process.returncode in (130, 143, -signal.SIGTERM, -signal.SIGINT), said  # before Python is up: the default
    assert "Traceback" not in said or process.returncode < 0 or "KeyboardInterrupt" in said
    written = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    if clip.exists():
        video = cv2.VideoCapture(str(clip))
        assert video.read()[0]
        video.release()
    if len(written) > 10:
        assert clip.exists(), said
    assert {path.name for path in tmp_path.iterdir()} <= {"out.mp4", "out.jsonl"}


def test_an_import_that_a_signal_tore_ends_as_the_signal_does() -> None:
    def torn() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit as stop:
            raise ImportError("initialization failed") from stop

    with pytest.raises(SystemExit) as ended, ending.in_order():
        torn()
    assert ended.value.code == 128 + signal.SIGTERM


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(ImportError, match="initialization failed"), ending.in_order():
        raise ImportError("initialization failed")


def test_an_error_of_a_run_that_a_signal_ended_in_order_is_told() -> None:
    def fails_at_its_end() -> None:
        with ending.gracefully(lambda: None):
            signal.raise_signal(signal.SIGTERM)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), ending.in_order():
        fails_at_its_end()
