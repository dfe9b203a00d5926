"""Worker processes as an executor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from edge_sdk.calibration.workers import Workers
from edge_sdk.errors import UsageError


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends in time; one that has ended and waits for its parent's notice counts."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def workers():
    made = Workers(2)
    yield made
    made.kill()


def test_calls_are_answered_by_other_processes(workers):
    futures = [workers.submit(os.getpid) for _ in range(4)]
    pids = {future.result(30) for future in futures}
    assert os.getpid() not in pids
    assert pids <= set(workers.pids)
    assert len(workers.pids) <= 2


def test_what_a_call_raises_comes_back(workers):
    with pytest.raises(ValueError, match="invalid literal for int"):
        workers.submit(int, "seven").result(30)


def test_an_answer_that_cannot_be_sent_is_an_error(workers):
    with pytest.raises(RuntimeError, match="code object cannot be sent back"):
        workers.submit(compile, "1", "here", "eval").result(30)


def test_an_error_that_cannot_be_sent_comes_back_as_its_text(workers):
    with pytest.raises(RuntimeError, match="AwkwardError: 3 and 4"):
        workers.submit(_raise_awkwardly).result(30)


class AwkwardError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def _raise_awkwardly() -> None:
    raise AwkwardError(3, 4)


def test_what_a_call_prints_does_not_disturb_the_answers(workers):
    assert workers.submit(print, "in the worker").result(30) is None
    assert workers.submit(len, "abc").result(30) == 3


def test_one_that_dies_costs_its_call_alone(workers):
    others = [workers.submit(len, "x" * number) for number in range(4)]
    lost = workers.submit(_kill_itself)
    others += [workers.submit(len, "x" * number) for number in range(4, 8)]
    with pytest.raises(BrokenExecutor, match=r"ended by SIGKILL; .* memory"):
        lost.result(60)
    assert [future.result(60) for future in others] == list(range(8))
    assert len(workers.pids) <= 2


def test_one_that_dies_between_calls_is_not_noticed():
    workers = Workers(1)
    pid = workers.submit(os.getpid).result(60)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert workers.submit(os.getpid).result(60) != pid
    workers.kill()


def _kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_shutdown_ends_the_processes():
    with Workers(1) as workers:
        pid = workers.submit(os.getpid).result(30)
    assert gone(pid)
    with pytest.raises(RuntimeError, match="after shutdown"):
        workers.submit(len, "")


def test_kill_does_not_wait_for_calls_under_way():
    workers = Workers(1)
    pid = workers.submit(os.getpid).result(30)
    under_way, queued = workers.submit(time.sleep, 60), workers.submit(len, "")
    while not under_way.running():
        time.sleep(0.01)
    begun = time.monotonic()
    workers.kill()
    workers.kill()
    assert time.monotonic() - begun < 20
    assert gone(pid)
    assert queued.cancelled()
    with pytest.raises(BrokenExecutor):
        under_way.result(1)


def test_workers_end_with_a_process_that_is_killed_and_need_no_main_guard(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import os, time\n"
        "from edge_sdk.calibration.workers import Workers\n"
        "workers = Workers(2)\n"
        "print(*{workers.submit(os.getpid).result() for _ in range(4)}, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.send_signal(signal.SIGKILL)
    assert pids
    assert all(gone(pid) for pid in pids)


def test_our_own_errors_keep_their_kind(workers):
    with pytest.raises(UsageError, match="count must be"):
        workers.submit(_refuse).result(30)


def _refuse() -> None:
    raise UsageError("count must be 1")
