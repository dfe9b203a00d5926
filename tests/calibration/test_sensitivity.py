"""What each group does to the detections."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("scipy")

from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.probing import Prober
from edge_sdk.calibration.sensitivity import neighbours, sweep
from edge_sdk.errors import UsageError
from tests.calibration.probed import Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Shared, so that what one test probes another need not."""
    return Cache(tmp_path_factory.mktemp("probes"))


def prober(scene: Scene, cache: Cache, **options) -> Prober:
    options.setdefault("workers", 1)
    return Prober(scene.problem, scene.feeds, scene.detector, scene.geometries, cache=cache, **options)


@pytest.fixture(scope="module")
def found(scene, cache):
    with prober(scene, cache) as one:
        return sweep(one, scene.problem)


def probe_of(found, mask):
    return next(one for one in found.probes if one.mask == tuple(mask))


def test_alone_is_the_damage_of_each_group_by_itself(scene, found):
    for place, damage in enumerate(found.alone):
        mask = scene.problem.off
        mask[place] = True
        assert damage == probe_of(found, mask.tolist()).damage
        assert damage > 0


def test_without_is_what_goes_when_a_group_leaves_the_base(found):
    level = probe_of(found, found.base).damage
    for place, change in enumerate(found.without):
        mask = list(found.base)
        mask[place] = not mask[place]
        damage = probe_of(found, mask).damage
        assert change == (level - damage if found.base[place] else damage - level)


def test_pairs_tell_what_two_groups_do_beyond_independent_ones(scene, found):
    assert {(first, second) for first, second, _ in found.pairs} >= set(neighbours(scene.problem))
    for first, second, beyond in found.pairs:
        mask = scene.problem.off
        mask[[first, second]] = True
        assert first < second
        assert beyond == probe_of(found, mask.tolist()).damage - math.hypot(found.alone[first], found.alone[second])


def test_no_mask_is_probed_twice_and_all_are_settled(scene, found):
    masks = [probe.mask for probe in found.probes]
    assert len(set(masks)) == len(masks)
    for mask in masks:
        assert tuple(scene.problem.settle(np.array(mask)).tolist()) == mask


def test_the_same_seed_draws_the_same_masks_and_another_others(scene, cache, found):
    with prober(scene, cache) as one:
        assert sweep(one, scene.problem) == found
        assert one.made == 0
    with prober(scene, cache) as other:
        assert [probe.mask for probe in sweep(other, scene.problem, seed=1).probes] != [
            probe.mask for probe in found.probes
        ]


def test_the_number_of_workers_changes_no_figure(scene, found, tmp_path):
    with prober(scene, Cache(tmp_path), workers=2) as one:
        assert sweep(one, scene.problem) == found
        assert one.made == len(found.probes)


def test_pinned_groups_stay_as_they_are(scene, cache, tmp_path):
    names = [group.name for group in scene.problem.free]
    problem = replace(scene.problem, pinned={names[0]: "int8", names[3]: "fp32"})
    with Prober(problem, scene.feeds, scene.detector, scene.geometries, cache=cache, workers=1) as one:
        found = sweep(one, problem)
    assert found.alone[0] is None
    assert found.without[3] is None
    assert all(probe.mask[0] and not probe.mask[3] for probe in found.probes)


def test_a_base_with_too_much_damage_is_thinned_from_the_worst(scene, tmp_path):
    def harsh(probe, teacher) -> float:
        """The sum of all scores counts, so that the full mask is far too much."""
        moved = (float(a.confidence.sum() - b.confidence.sum()) for a, b in zip(probe, teacher, strict=True))
        return min(1.0, 0.5 * sum(map(abs, moved)))

    with prober(scene, Cache(tmp_path), metric=harsh) as one:
        found = sweep(one, scene.problem)
    full = probe_of(found, scene.problem.on.tolist()).damage
    assert full > 0.2
    off = [place for place, low in enumerate(found.base) if not low]
    assert off
    worst = sorted(range(len(found.alone)), key=lambda place: -found.alone[place])
    assert set(off) == set(worst[: len(off)])


def test_a_sweep_that_is_stopped_at_once_says_nothing_it_does_not_know(scene, tmp_path):
    with prober(scene, Cache(tmp_path)) as one:
        found = sweep(one, scene.problem, stop=lambda: True)
    assert found.probes == ()
    assert found.alone == found.without == (None,) * 6
    assert found.pairs == ()


def test_a_sweep_stopped_anywhere_keeps_what_it_has(scene, cache, found, tmp_path):
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count > 25

    with prober(scene, Cache(tmp_path)) as one:
        some = sweep(one, scene.problem, stop=stop)
    assert 0 < len(some.probes) < len(found.probes)
    assert set(some.probes) <= set(found.probes)


def test_progress_tells_every_part(scene, cache):
    parts = []
    with prober(scene, cache) as one:
        sweep(one, scene.problem, progress=lambda what, done, total: parts.append(what))
    assert list(dict.fromkeys(parts)) == [
        f"probe: {kind}" for kind in ("whole", "alone", "ranked", "without", "pair", "random")
    ]


def test_no_random_masks_where_none_are_wanted(scene, cache, found):
    with prober(scene, cache) as one:
        assert {probe.kind for probe in sweep(one, scene.problem, draws=0).probes}.isdisjoint({"random"})
        with pytest.raises(UsageError, match="draws must be 0 or more"):
            sweep(one, scene.problem, draws=-1)


# --- kills ------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.calibration.probed import make_scene
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.probing import Prober
from edge_sdk.calibration.sensitivity import sweep
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
scene = make_scene(folder)
with Prober(scene.problem, scene.feeds, scene.detector, scene.geometries, cache=Cache(sys.argv[2]), workers=2) as one:
    print("begin", flush=True)
    found = sweep(one, scene.problem)
    print(one.made, repr(found), sep="|", flush=True)
"""


def lines_of(cache: Path) -> int:
    log = cache / "probes.jsonl"
    return log.read_bytes().count(b'"key"') if log.exists() else 0


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_repeats_no_probe_and_ends_the_same(found, tmp_path):
    draw = random.Random(3)  # noqa: S311
    root = Path(__file__).resolve().parents[2]
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    cache = tmp_path / "cache"
    command = [sys.executable, str(script), str(tmp_path / "scene"), str(cache), str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kept = 0
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begin\n"
            until = lines_of(cache) + draw.randint(1, 6)
            while lines_of(cache) < until and process.poll() is None:
                time.sleep(draw.random() * 0.02)
            process.send_signal(signal.SIGKILL)
        assert lines_of(cache) >= kept  # nothing that was known is lost
        kept = lines_of(cache)
    whole = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True).stdout
    made, text = whole.splitlines()[1].split("|")
    assert text == repr(found)
    assert int(made) == len(found.probes) - kept
