"""A program that prints a line now and then, for as long as somebody reads it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from edge_sdk.errors import SensorError, one_line

_LINE_BYTES = 16_384


class Child:
    """A running program whose lines are read as they come, by a thread; closing ends both.

    Args:
        command: The program and its arguments; it runs in a session of its own, so that Ctrl-C is not its business.
        on_line: Called with each line, in the thread.
        on_end: Called with the reason when it ended by itself: its exit code, and the last line that it printed.

    Raises:
        SensorError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], on_line: Callable[[str], None], on_end: Callable[[str], None]) -> None:
        self.name = Path(command[0]).name
        self._on_line, self._on_end = on_line, on_end
        self._last = ""
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise SensorError(f"{self.name}: cannot be run: {error.strerror or one_line(error)}") from error
        self._output = cast("IO[bytes]", self._process.stdout)
        self._wake, self._waker = os.pipe()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="edge-sdk-child", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; may be called twice."""
        if self._closed:
            return
        self._closed = True
        os.write(self._waker, b".")
        self._thread.join()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._output.close()
        os.close(self._wake)
        os.close(self._waker)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)  # its session, so that what it started ends too

    def _run(self) -> None:
        text = b""
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._output.fileno(), self._wake):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._wake in ready:
                    return
                chunk = os.read(self._output.fileno(), 65_536)
                if not chunk:
                    break
                *lines, text = (text + chunk).split(b"\n")
                text = text[-_LINE_BYTES:]  # a line without an end is none
                for line in lines:
                    self._last = line.decode("utf-8", "replace").strip()[:200] or self._last
                    self._on_line(line.decode("utf-8", "replace"))
        self._on_end(self._ended())

    def _ended(self) -> str:
        try:
            code = str(self._process.wait(timeout=2))
        except subprocess.TimeoutExpired:
            code = "none yet"
        said = f": {' '.join(self._last.split())}" if self._last else ""
        return f"{self.name} ended (exit code {code}){said}"
