"""A program that is fed through its standard input, watched, and ended in time."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, cast

END_S = 0.7  # to end by itself once its input has ended; then it is killed
KILLED_S = 0.3  # for the kernel to take away what was killed
_SLICE_S = 0.05  # how often a wait looks whether the program is still there
_PIPE_BYTES = 1 << 20  # a picture in few turns; as much as a user may ask for (/proc/sys/fs/pipe-max-size)
_LINES = 20  # of what it said last


class FedProcess:
    """A running program whose input never blocks for long and which leaves nothing behind.

    It has a session of its own, so that Ctrl-C reaches us alone and it is ended in order. When this process is killed,
    its input ends, and a program that reads it ends too.

    Args:
        command: The program and its arguments.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._child = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._input = cast("IO[bytes]", self._child.stdin)
        self._messages = cast("IO[bytes]", self._child.stderr)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = b""
        for pipe in (self._input, self._messages):
            os.set_blocking(pipe.fileno(), False)
        with suppress(OSError):  # the user's pipes have their share of memory already; it works with the usual 64 KiB
            fcntl.fcntl(self._input.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def write(self, data: bytes | memoryview, limit_s: float) -> None:
        """Hands all of it over.

        Raises:
            BrokenPipeError: The program has ended or been stopped, or takes nothing more.
            TimeoutError: It did not take all of it in time; what it took is torn, so it is to be stopped.
        """
        if self._input.closed:
            raise BrokenPipeError
        deadline = time.monotonic() + limit_s
        waiting = select.poll()
        waiting.register(self._input.fileno(), select.POLLOUT)
        left = memoryview(data).cast("B")
        while left:
            self._listen()
            if self.ended() is not None:
                raise BrokenPipeError
            if waiting.poll(_SLICE_S * 1000):
                with suppress(BlockingIOError):
                    left = left[os.write(self._input.fileno(), left) :]
            if left and time.monotonic() > deadline:
                raise TimeoutError

    def ended(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs. Any thread may ask."""
        return self._child.poll()

    def ends_within(self, limit_s: float) -> bool:
        """Whether it ends by itself in this time."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(limit_s)
        return self.ended() is not None

    def said(self) -> list[str]:
        """The last lines that it wrote on standard error."""
        self._listen()
        return [*self._lines, *([self._rest.decode(errors="replace")] if self._rest else [])]

    def wait_for(self, line: str, limit_s: float) -> bool:
        """Whether it says this line before it ends and in time."""
        deadline = time.monotonic() + limit_s
        while line not in self.said():
            if self.ended() is not None or time.monotonic() > deadline:
                return line in self.said()
            time.sleep(_SLICE_S)
        return True

    def stop(self) -> None:
        """Ends its input and waits a little, then kills it; about a second at most. May be called twice."""
        with suppress(OSError):
            self._input.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(END_S)
        if self._child.poll() is None:
            self._child.kill()
            with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it goes when that lets go of it
                self._child.wait(KILLED_S)
        if not self._messages.closed:
            self._listen()
            self._messages.close()

    def _listen(self) -> None:
        """Takes what it has written, or it would block once the pipe is full."""
        if self._messages.closed:
            return
        with suppress(BlockingIOError):
            while block := os.read(self._messages.fileno(), 1 << 16):
                *whole, self._rest = (self._rest + block).split(b"\n")
                self._rest = self._rest[-4096:]
                self._lines.extend(line.decode(errors="replace") for line in whole)
