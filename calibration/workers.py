"""Worker processes on this machine, as a `concurrent.futures.Executor`.

Unlike those of `multiprocessing` they do not run the caller's script again, so that one without an ``if __name__ ==
"__main__"`` can use them; one that dies is replaced and costs its task alone; and they end with the process that
started them, however that one ends, because then the pipe they read from is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import IO, Any, TypeVar

from edge_sdk.errors import one_line

T = TypeVar("T")

_START = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from edge_sdk.calibration.workers import serve
serve()
"""

# One probe is one core's work: more threads in a worker would only get in the others' way.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_END_S = 5.0  # for a worker to end by itself


class Workers(Executor):
    """Runs calls in processes of their own, which start with the first call.

    A process that dies gives its call's future a `BrokenExecutor`; the next call gets a new one.

    Args:
        count: Processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queues a call: a function that can be imported, with arguments that can be pickled."""
        call = pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL)
        future: Future[T] = Future()
        with self._guard:
            if self._closed:
                raise RuntimeError("cannot submit after shutdown")
            self._tasks.put((future, call))
            if len(self._threads) < self.count:
                thread = threading.Thread(target=self._feed, name="edge-sdk-worker", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes once the queued calls are done; may be called twice.

        Args:
            wait: For that.
            cancel_futures: Do not begin with what is only queued.
        """
        with self._guard:
            first, self._closed = not self._closed, True
        if cancel_futures:
            self._drop()
        if first:
            for _ in self._threads:
                self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def kill(self) -> None:
        """Ends the processes now; their calls are lost. May be called twice."""
        with self._guard:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._drop()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that run."""
        with self._guard:
            return tuple(sorted(process.pid for process in self._processes))

    def _drop(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    task[0].cancel()

    def _feed(self) -> None:
        """One process's calls, in a thread of its own."""
        process: subprocess.Popen[bytes] | None = None
        try:
            while (task := self._tasks.get()) is not None:
                future, call = task
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    if process is None or process.poll() is not None:
                        self._forget(process)
                        process = self._started()
                    failed, value = _ask(process, call)
                except (OSError, EOFError, pickle.UnpicklingError) as error:
                    future.set_exception(BrokenExecutor(self._ended(process, error)))
                    self._forget(process)
                    process = None
                except BaseException as error:  # noqa: BLE001  # whatever it is, its future must not wait for ever
                    future.set_exception(error)
                else:
                    if failed:
                        future.set_exception(value)
                    else:
                        future.set_result(value)
        finally:
            self._forget(process)

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
        with self._guard:
            if self._closed:
                raise OSError("the workers are being closed")
            # A session of its own: the terminal's Ctrl-C is for the process that started it, which then ends it.
            process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
            )  # fmt: skip
            self._processes.add(process)
        return process

    @staticmethod
    def _ended(process: subprocess.Popen[bytes] | None, error: BaseException) -> str:
        if process is None:
            return f"a worker process cannot be started: {one_line(error)}"
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return f"a worker process does not answer: {one_line(error)}"
        if code < 0:
            hint = "; the system kills a process so when memory runs out" if -code == signal.SIGKILL else ""
            return f"a worker process was ended by {signal.Signals(-code).name}{hint}"
        return f"a worker process ended with exit code {code}"

    def _forget(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with self._guard:
            self._processes.discard(process)


def _ask(process: subprocess.Popen[bytes], call: bytes) -> tuple[bool, Any]:
    if process.stdin is None or process.stdout is None:
        raise OSError("a worker without pipes")
    process.stdin.write(call)
    process.stdin.flush()
    answer: tuple[bool, Any] = pickle.load(process.stdout)  # noqa: S301  # from our own child
    return answer


def serve() -> None:
    """What a worker process does: a call from standard input, its answer to standard output, until the input ends."""
    calls, answers = sys.stdin.buffer, _private_stdout()
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    while True:
        try:
            fn, args, kwargs = pickle.load(calls)  # noqa: S301  # from our own parent
        except EOFError:
            return
        try:
            answer = (False, fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # the parent is told
            answer = (True, error)
        try:
            answers.write(_pickled(answer))
            answers.flush()
        except BrokenPipeError:
            return


def _pickled(answer: tuple[bool, Any]) -> bytes:
    failed, value = answer
    try:
        data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        if failed:
            pickle.loads(data)  # noqa: S301  # an error whose constructor wants more fails only here
    except Exception as error:  # noqa: BLE001  # whatever a value does when it is pickled
        kind = type(value).__name__
        text = f"{kind}: {one_line(value)}" if failed else f"a {kind} object cannot be sent back: {one_line(error)}"
        return pickle.dumps((True, RuntimeError(text)))
    return data


def _private_stdout() -> IO[bytes]:
    """The pipe to the parent; what anything prints goes to standard error from now on."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private
