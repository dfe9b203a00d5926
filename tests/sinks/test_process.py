"""Programs that are fed, watched and ended in time."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_sdk.sinks.process import FedProcess


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fails a test after which a descriptor or a child process is left."""

    def held() -> tuple[int, list[str]]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(list(Path("/proc/self/fd").iterdir())), children

    before = held()
    yield
    assert held() == before


def until(condition: Callable[[], object], patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def python(code: str, *arguments: object) -> FedProcess:
    return FedProcess([sys.executable, "-c", code, *map(str, arguments)])


def test_all_that_is_written_arrives(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    program = python(code, tmp_path / "out")
    data = os.urandom(5_000_000)
    program.write(data, 20)
    program.write(memoryview(data[:10]), 20)
    assert program.ended() is None
    program._input.close()
    until(lambda: program.ended() is not None)
    program.stop()
    program.stop()
    assert program.ended() == 0
    assert (tmp_path / "out").read_bytes() == data + data[:10]


def test_what_takes_nothing_costs_the_time_limit_and_no_more() -> None:
    program = python("import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        program.write(bytes(10_000_000), 0.3)
    assert time.monotonic() - began < 10
    program.stop()
    assert program.ended() == -signal.SIGKILL
    with pytest.raises(BrokenPipeError):
        program.write(b"more", 1)


def test_a_stopped_program_is_killed_within_about_a_second() -> None:
    program = python("import sys; sys.stdin.buffer.read()")
    os.kill(program.pid, signal.SIGSTOP)
    began = time.monotonic()
    program.stop()
    assert time.monotonic() - began < 5
    assert program.ended() == -signal.SIGKILL


def test_what_has_ended_breaks_the_pipe_and_its_last_words_are_known() -> None:
    program = python("import sys; print('before', file=sys.stderr); sys.exit('no such server')")
    until(lambda: program.ended() is not None)
    with pytest.raises(BrokenPipeError):
        program.write(b"picture", 5)
    assert program.said()[:2] == ["before", "no such server"]
    program.stop()
    assert program.said()[:2] == ["before", "no such server"]


def test_a_program_that_ends_in_the_middle_of_a_write_breaks_the_pipe() -> None:
    program = python("import sys; sys.stdin.buffer.read(100_000)")
    with pytest.raises(BrokenPipeError):
        program.write(bytes(50_000_000), 30)
    program.stop()
    assert program.ended() == 0


def test_a_program_that_complains_without_end_is_not_held_up_and_not_remembered_whole() -> None:
    code = (
        "import sys\nfor n in range(30_000): print('complaint', n, file=sys.stderr)\n"
        "data = sys.stdin.buffer.read()\nprint(len(data), 'bytes', file=sys.stderr)"
    )
    program = python(code)
    program.write(bytes(3_000_000), 60)  # it reads only once all its complaints are taken
    program._input.close()
    until(lambda: program.said()[-1] == "3000000 bytes")
    assert len(program.said()) <= 21
    program.stop()


def test_one_waits_for_a_line_until_it_comes_or_the_program_ends() -> None:
    program = python("import sys, time; print('open', file=sys.stderr, flush=True); time.sleep(600)")
    assert program.wait_for("open", 20)
    assert not program.wait_for("closed", 0.2)
    assert not program.ends_within(0.05)
    program.stop()
    program = python("import sys; sys.exit('broken')")
    assert not program.wait_for("open", 20)
    assert program.ends_within(20)
    program.stop()


def test_what_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        FedProcess(["no-such-program-anywhere"])
