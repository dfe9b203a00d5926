"""Cold start: how long a fresh process takes to its first detection.

Each start is a Python process of its own. The page cache is warm: a first process, thrown away, has read every file, as
on a board whose service is restarted. After a boot the files come from the disk besides, which this does not measure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import BackendError, UsageError
from edge_sdk.measure import loadgen_rules as rules

RUNS = 5
STAGES = ("python", "import", "open", "first")
_FIGURES = ("p50", "p90", "min", "max")
_MARK = "edge-sdk cold start "

# The folder that it is started in is not on its path: people keep a calibration.py beside their script. Making the
# picture is timed out, because a camera's frame is there already.
_CHILD = """
import time
began = time.monotonic_ns()
import json, sys
sys.path = [folder for folder in sys.path if folder]
given = json.loads(sys.argv[1])
import edge_sdk
Detector = edge_sdk.Detector
imported = time.monotonic_ns()
if given["image"] is None:
    import numpy
    image = numpy.random.default_rng(0).integers(0, 256, (720, 1280, 3), numpy.uint8)
else:
    from pathlib import Path
    from edge_sdk.sources.files import read_photo
    image = read_photo(Path(given["image"]))
ready = time.monotonic_ns()
with Detector(given["model"], **given["detector"]) as detector:
    opened = time.monotonic_ns()
    detector(image)
    done = time.monotonic_ns()
    stages = {"import": imported - began, "open": opened - ready, "first": done - opened}
    print("\\n" + given["mark"] + json.dumps({"began": began, **stages}), flush=True)
"""


@dataclass(frozen=True)
class ColdStart:
    """From the start of a process to its first detection, over several processes.

    Args:
        runs: How many processes.
        process_ms: p50, p90, min and max of the whole: the stages together. By LoadGen's rule, so that each is an
            observed time; of five, p90 is the slowest.
        stages_ms: The same of "python" (until the interpreter runs), "import" (Edge SDK, NumPy and OpenCV), "open" (the
            engine imported and the model open) and "first" (the first whole detection).
        times_ms: Of each process, in order.
        page_cache: "warm": the files had been read before.
    """

    runs: int
    process_ms: Mapping[str, float]
    stages_ms: Mapping[str, Mapping[str, float]]
    times_ms: tuple[float, ...]
    page_cache: str = "warm"


def cold_start(
    model: Path | str,
    *,
    image: Path | None = None,
    backend: str = "auto",
    threads: int | None = None,
    head: str | None = None,
    card: Path | None = None,
    options: Mapping[str, str] | None = None,
    runs: int = RUNS,
    timeout_s: float = 300.0,
    progress: Callable[[float], None] | None = None,
) -> ColdStart:
    """Starts processes that open a model and detect once, one after another.

    Args:
        model: A file, or the name of a zoo model.
        image: A photo to detect in; None is noise of 1280x720.
        backend, threads, head, card, options: As `Detector` takes them.
        runs: Processes that count; one more goes before.
        timeout_s: The most that one may take.
        progress: Told which part of the processes is done, 0..1.

    Raises:
        UsageError: `runs` is not above 0.
        BackendError: A process failed or took too long; the message is its last line.
    """
    if runs < 1:
        raise UsageError(f"runs must be 1 or more, not {runs}")
    detector = {"backend": backend, "threads": threads, "head": head, "options": dict(options or {})}
    given = {
        "model": str(model),
        "image": None if image is None else str(image),
        "detector": {**detector, "card": None if card is None else str(card)},
        "mark": _MARK,
    }
    starts: list[Mapping[str, float]] = []
    for number in range(runs + 1):
        starts.append(_start(json.dumps(given), timeout_s))
        if progress is not None:
            progress((number + 1) / (runs + 1))
    return summary(starts[1:])


def summary(starts: list[Mapping[str, float]]) -> ColdStart:
    """Starts of one process each, milliseconds by stage, as figures."""
    times = tuple(sum(start[stage] for stage in STAGES) for start in starts)
    return ColdStart(
        runs=len(starts),
        process_ms=_figures(times),
        stages_ms={stage: _figures([start[stage] for start in starts]) for stage in STAGES},
        times_ms=times,
    )


def parse_child(output: str, spawned_ns: int) -> dict[str, float]:
    """What a process printed, as milliseconds by stage.

    Args:
        output: Its standard output; engines may have written there too.
        spawned_ns: `time.monotonic_ns` before it was started; processes share that clock.

    Raises:
        BackendError: It printed no times.
    """
    for line in reversed(output.splitlines()):
        if line.startswith(_MARK):
            try:
                told: dict[str, Any] = json.loads(line.removeprefix(_MARK))
                spans = {"python": told["began"] - spawned_ns, **{name: told[name] for name in STAGES[1:]}}
                return {name: float(span) / 1e6 for name, span in spans.items()}
            except (ValueError, KeyError, TypeError) as error:
                raise BackendError(f"cold start: the process printed no times but {line[:80]!r}") from error
    raise BackendError("cold start: the process ended without printing its times")


def _start(given: str, timeout_s: float) -> Mapping[str, float]:
    here = str(Path(__file__).resolve().parents[2])  # so that the process sees this very Edge SDK, installed or not
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    spawned_ns = time.monotonic_ns()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, given],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"cold start: no detection within {timeout_s:g} s of starting a process") from error
    except OSError as error:
        raise BackendError(f"cold start: no process could be started: {error.strerror}") from error
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = said[-1] if said else f"it ended with status {done.returncode} and said nothing"
        raise BackendError(f"cold start: the process failed: {last[:300]}")
    return parse_child(done.stdout, spawned_ns)


def _figures(times: tuple[float, ...] | list[float]) -> dict[str, float]:
    found = rules.percentiles(times)
    return {name: found[name] for name in _FIGURES}
