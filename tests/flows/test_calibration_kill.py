"""The planner is killed again and again, and ends with the plan that it would have ended with anyway."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")
pytest.importorskip("pycocotools")

from edge_sdk.calibration.request import Request

from ..models.tiny_yolox import write, write_photos  # noqa: TID252  there is no package of tests to name
from .stand_in import StandIn, run

ROOT = Path(__file__).resolve().parents[2]
FILES = ("plan.json", "prepared.onnx", "tiny.generic-x86_64.onnx")

# Says which probe was computed once it is kept: one that is said twice was computed twice without need.
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from edge_sdk.calibration.cache import Cache
from tests.flows.stand_in import StandIn, run
from edge_sdk.calibration.request import Request
WANTED = Request(count=4, max_map_drop=0.02)
model, photos, folder, said = map(Path, sys.argv[2:])
put = Cache.put
def telling(self, key, value):
    kept = put(self, key, value)
    if isinstance(value, dict) and "damage" in value and "noise" in value:
        with said.open("ab", buffering=0) as file:
            file.write(key.encode() + b"\\n")
    return kept
Cache.put = telling
print("begin", flush=True)
run(model, photos, folder, WANTED, timer=StandIn(folder.with_suffix(".timed")), workers=2)
print("end", flush=True)
"""


@dataclass(frozen=True)
class Place:
    """A model, photos, and what a run that nobody disturbs makes of them."""

    folder: Path
    model: Path
    photos: Path
    wanted: dict[str, bytes]
    steps: int

    def start(self, name: str) -> subprocess.Popen[str]:
        script = self.folder / "run.py"
        script.write_text(SCRIPT)
        words = [ROOT, self.model, self.photos, self.folder / name, self.folder / f"{name}.said"]
        return subprocess.Popen(
            [sys.executable, str(script), *map(str, words)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip


def steps_of(cache: Path) -> int:
    """Values and artefacts that a cache holds."""
    log = cache / "probes.jsonl"
    lines = log.read_bytes().count(b'"key"') if log.exists() else 0
    return lines + sum(not path.name.startswith(".") for path in (cache / "artefacts").glob("*/*"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "out" / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("kill")
    model, photos = write(folder / "tiny.onnx"), write_photos(folder / "photos", range(12))
    run(
        model,
        photos,
        folder / "whole",
        Request(count=4, max_map_drop=0.02),
        timer=StandIn(folder / "whole.timed"),
        workers=1,
    )
    timed = (folder / "whole.timed").read_text().splitlines()
    assert max(Counter(timed).values()) == 1, "a file was timed or read twice"
    return Place(folder, model, photos, files_of(folder / "whole"), steps_of(folder / "whole/cache"))


def killed(place: Place, kills: int, seed: int) -> str:
    """Kills as many runs, at moments that lie all over what is to be done, then lets one end; its folder's name."""
    draw = random.Random(seed)  # noqa: S311
    name = f"{kills} kills"
    cache = place.folder / name / "cache"
    count = 0
    for until in sorted(draw.sample(range(place.steps + 1), kills)):
        with place.start(name) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begin\n"
            before = steps_of(cache)
            while steps_of(cache) < until and process.poll() is None:
                time.sleep(0.004)
            time.sleep(0.05 * draw.random())
            process.send_signal(signal.SIGKILL)
        count += process.returncode == -signal.SIGKILL
        assert steps_of(cache) >= before, "what was known was lost"
    assert count >= kills - 1, "runs ended before they were killed"  # the last moments are short
    with place.start(name) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "begin\nend\n"
    assert process.returncode == 0
    return name


def held_to_be_undisturbed(place: Place, name: str) -> None:
    assert files_of(place.folder / name) == place.wanted
    said = (place.folder / f"{name}.said").read_text().split()
    assert len(said) > 20
    assert len(set(said)) == len(said), "a probe was computed again"
    assert steps_of(place.folder / name / "cache") == place.steps, "something else was computed than without kills"


def test_a_run_that_is_killed_twice_ends_with_the_same_plan(place: Place) -> None:
    held_to_be_undisturbed(place, killed(place, 2, seed=1))


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_ends_with_the_same_plan(place: Place) -> None:
    held_to_be_undisturbed(place, killed(place, 10, seed=10))


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def children_of(pid: int) -> set[int]:
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= {int(one) for one in path.read_text().split()}
        except OSError:
            continue  # a thread that has ended
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_its_workers_end_with_it(place: Place) -> None:
    """Only the parent is killed; what it started sees its pipe closed."""
    with place.start("orphans") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        until = time.monotonic() + 60
        while len(children_of(process.pid)) < 2 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        workers = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
    assert len(workers) == 2, "it had no workers yet, or has ended"
    until = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not [pid for pid in workers if alive(pid)]
