"""Damages of masks: each probed once, with the same figures by any number of workers."""

from __future__ import annotations

import math
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("scipy")

from edge_sdk import Detector
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.probing import Probe, Prober
from edge_sdk.calibration.workers import Workers
from edge_sdk.errors import BackendError, UsageError
from tests.calibration.probed import Scene, make_scene, without_boxes


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def prober(scene: Scene, cache: Cache, **options) -> Prober:
    options.setdefault("workers", None if "executor" in options else 1)
    return Prober(scene.problem, scene.feeds, scene.detector, scene.geometries, cache=cache, **options)


def some_masks(scene: Scene, count: int = 10, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    drawn = draw.random((count, len(scene.problem.free))) < 0.5
    return [scene.problem.off, scene.problem.on, *drawn]


@pytest.fixture(scope="module")
def figures(scene, tmp_path_factory) -> list[Probe]:
    """Of `some_masks`, by one worker in this process."""
    with prober(scene, Cache(tmp_path_factory.mktemp("first"))) as one:
        return one.probe(some_masks(scene), kind="some")


def test_the_float_mask_does_no_damage_and_others_do(figures):
    assert figures[0].damage == pytest.approx(0, abs=1e-12)
    assert figures[0].noise == 0
    assert all(probe.damage > 0 and probe.noise > 0 for probe in figures if any(probe.mask))


def test_results_come_in_the_order_asked(scene, figures, tmp_path):
    masks = some_masks(scene)
    assert [probe.mask for probe in figures] == [tuple(scene.problem.settle(mask).tolist()) for mask in masks]
    with prober(scene, Cache(tmp_path)) as one:
        assert one.probe(masks[::-1], kind="some") == figures[::-1]


def test_a_base_makes_no_difference_but_in_time(scene, figures, tmp_path):
    with prober(scene, Cache(tmp_path)) as one:
        assert one.probe(some_masks(scene), kind="some", base=scene.problem.on) == figures


def test_a_mask_is_probed_once_in_its_life(scene, figures, tmp_path):
    with prober(scene, Cache(tmp_path)) as one:
        assert one.probe([*some_masks(scene), *some_masks(scene)], kind="some") == figures * 2
        made = one.made
        assert one.probe(some_masks(scene), kind="again") == figures
        assert one.made == made == len({probe.mask for probe in figures})
        assert one.probes == tuple(dict.fromkeys(figures))
    with prober(scene, Cache(tmp_path)) as other:
        assert other.probe(some_masks(scene), kind="some") == figures
        assert other.made == 0


def test_another_problem_or_other_photos_are_other_probes(scene, figures, tmp_path):
    cache = Cache(tmp_path)
    with prober(scene, cache) as one:
        one.probe(some_masks(scene))
    fewer = Scene(scene.problem, scene.detector, scene.feeds[1:], scene.geometries[1:])
    with prober(fewer, cache) as other:
        assert other.digest != one.digest
        assert other.probe(some_masks(scene)) != figures
        assert other.made > 0


@pytest.mark.parametrize("kind", ["threads", "processes", "workers", pytest.param("dask", marks=pytest.mark.slow)])
def test_any_executor_gives_the_same_figures(scene, figures, tmp_path, kind, request):
    made = {"threads": _threads, "processes": _processes, "workers": _workers, "dask": _dask}[kind]()
    request.addfinalizer(made[1])
    with prober(scene, Cache(tmp_path), executor=made[0], workers=2) as one:
        assert one.probe(some_masks(scene), kind="some") == figures
    assert made[0].submit(len, "still open").result(60) == 10


def _threads():
    pool = ThreadPoolExecutor(2)
    return pool, pool.shutdown


def _processes():
    pool = ProcessPoolExecutor(2, mp_context=get_context("forkserver"))
    return pool, pool.shutdown


def _workers():
    pool = Workers(2)
    return pool, pool.kill


def _dask():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", worker_dashboard_address=None
    )
    client = distributed.Client(cluster)

    def close() -> None:
        client.close()
        cluster.close()

    return client.get_executor(), close


def test_own_workers_give_the_same_figures_and_end_with_the_prober(scene, figures, tmp_path):
    with prober(scene, Cache(tmp_path), workers=2) as one:
        assert one.probe(some_masks(scene), kind="some") == figures
        assert isinstance(one._own, Workers)
        own = one._own
        assert own.pids
    assert own.pids == ()


def test_nothing_is_started_for_what_is_known(scene, figures, tmp_path):
    cache = Cache(tmp_path)
    with prober(scene, cache) as one:
        one.probe(some_masks(scene))
    with prober(scene, cache, workers=2) as other:
        other.probe(some_masks(scene))
        assert other._own is None


def test_an_interrupt_leaves_no_process_and_keeps_what_came(scene, figures, tmp_path):
    def interrupted(done: int, total: int) -> None:
        seen.extend(one._own.pids)
        raise KeyboardInterrupt

    seen: list[int] = []
    cache = Cache(tmp_path)
    one = prober(scene, cache, workers=2)
    with pytest.raises(KeyboardInterrupt):
        one.probe(some_masks(scene), progress=interrupted)
    assert seen
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert cache.size().probes == 1
    assert one.probe(some_masks(scene), kind="some") == figures  # and it may go on
    one.close()


class Flaky(Executor):
    """Runs calls at once, and loses some of them as a killed worker does."""

    def __init__(self, losses: int) -> None:
        self.left, self.calls = losses, 0

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        self.calls += 1
        if self.left:
            self.left -= 1
            future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_worker_of_ours_that_is_lost_costs_nothing_but_its_time(scene, figures, tmp_path):
    with prober(scene, Cache(tmp_path)) as one:
        one._own = Flaky(1)
        assert one.probe(some_masks(scene), kind="some") == figures


def test_a_mask_that_kills_two_workers_is_an_error(scene, tmp_path):
    with prober(scene, Cache(tmp_path)) as one:
        one._own = Flaky(100)
        with pytest.raises(BackendError, match=r"worker was lost: a process was terminated"):
            one.probe(some_masks(scene))


def test_a_broken_pool_of_the_callers_is_an_error_that_keeps_what_came(scene, tmp_path):
    cache = Cache(tmp_path)
    with prober(scene, cache) as one:
        one.probe(some_masks(scene)[:4])
        kept = cache.size().probes
    with prober(scene, cache, executor=Flaky(1)) as other, pytest.raises(BackendError, match="worker was lost"):
        other.probe(some_masks(scene))
    assert cache.size().probes >= kept > 0


def test_a_stop_gives_what_there_is(scene, figures, tmp_path):
    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 3

    with prober(scene, Cache(tmp_path)) as one:
        some = one.probe(some_masks(scene), kind="some", stop=stop)
        assert 0 < len(some) < len(figures)
        assert [probe for probe in figures if probe in some] == some
        assert one.probe(some_masks(scene), kind="some") == figures


def test_progress_counts_to_the_end_with_what_is_known(scene, tmp_path):
    told = []
    masks = some_masks(scene)
    count = len({scene.problem.settle(mask).tobytes() for mask in masks})
    with prober(scene, Cache(tmp_path)) as one:
        one.probe(masks[:3])
        one.probe(masks, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (count, count)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# --- how a probe is scored ----------------------------------------------------------------------------


def lost_boxes(probe, teacher) -> float:
    """Lower is better, and not 0 for the teacher itself."""
    return 5.0 + sum(
        float(np.abs(a.confidence.sum() - b.confidence.sum())) for a, b in zip(probe, teacher, strict=True)
    )


def test_a_metric_of_the_callers_replaces_the_damage_and_counts_from_the_float_model(scene, figures, tmp_path):
    with prober(scene, Cache(tmp_path), metric=lost_boxes, workers=2) as one:
        found = one.probe(some_masks(scene), kind="some")
    assert found[0].damage == 0
    assert all(probe.damage > 0 for probe in found[1:])
    assert [probe.damage for probe in found] != [probe.damage for probe in figures]
    assert [probe.noise for probe in found] == [probe.noise for probe in figures]


def test_another_metric_needs_no_new_probe(scene, tmp_path):
    cache = Cache(tmp_path)
    with prober(scene, cache, metric=lost_boxes) as one:
        first = one.probe(some_masks(scene))
    with prober(scene, cache, metric=lambda probe, teacher: 2 * lost_boxes(probe, teacher)) as other:  # nor a name
        second = other.probe(some_masks(scene))
        assert other.made == 0
    assert [probe.damage for probe in second] == pytest.approx([2 * probe.damage for probe in first], abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda probe, teacher: 1 / 0, r"metric .*<lambda> failed: ZeroDivisionError: division by zero"),
        (lambda probe, teacher: math.nan, r"metric .*<lambda> gave nan, which is no finite number"),
        (lambda probe, teacher: "much", r"metric .*<lambda> failed: ValueError"),
    ],
)
def test_a_metric_that_fails_is_named(scene, tmp_path, metric, message):
    with prober(scene, Cache(tmp_path), metric=metric) as one, pytest.raises(UsageError, match=message):
        one.probe(some_masks(scene))


def test_where_nothing_decodes_the_outputs_their_noise_is_the_damage(scene, tmp_path):
    with Prober(scene.problem, scene.feeds, None, cache=Cache(tmp_path), workers=1) as one:
        found = one.probe(some_masks(scene))
    assert all(probe.damage == probe.noise / (1 + probe.noise) for probe in found)
    assert len(one.notes) == 1
    assert "nothing decodes the outputs" in one.notes[0]


def test_where_the_float_model_finds_nothing_the_noise_is_the_damage(scene, tmp_path):
    path = tmp_path / "blind.onnx"
    path.write_bytes(scene.detector.path.read_bytes())
    with Detector(without_boxes(path), backend="onnxruntime", threads=1) as blind:
        problem = make_scene(tmp_path).problem
        model = type(problem)(**{**_fields(problem), "graph": _graph(path, scene)})
        with Prober(model, scene.feeds, blind, scene.geometries, cache=Cache(tmp_path / "c"), workers=1) as one:
            found = one.probe(some_masks(scene))
    assert all(probe.damage == probe.noise / (1 + probe.noise) for probe in found)
    assert "finds next to nothing" in one.notes[0]


def _fields(problem) -> dict:
    names = ("graph", "sha256", "engine", "cpu", "target", "groups", "ranges", "weights", "pinned", "provenance")
    return {name: getattr(problem, name) for name in names}


def _graph(path, scene):
    from edge_sdk.calibration.canonical import canonical

    return canonical(path, feeds=scene.feeds[:1]).graph


# --- refusals -------------------------------------------------------------------------------------------


def test_arguments_that_mean_nothing_are_refused(scene, tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(UsageError, match="at least one"):
        Prober(scene.problem, [], scene.detector, [], cache=cache)
    with pytest.raises(UsageError, match="3 photos and 1 geometries"):
        Prober(scene.problem, scene.feeds, scene.detector, scene.geometries[:1], cache=cache)
    with pytest.raises(UsageError, match="workers must be 1 or more, not 0"):
        prober(scene, cache, workers=0)
    with pytest.raises(UsageError, match="needs a detector"):
        Prober(scene.problem, scene.feeds, None, cache=cache, metric=lost_boxes)
    with prober(scene, cache) as one, pytest.raises(UsageError, match=r"a mask is bool \[6\]"):
        one.probe([np.ones(3, np.bool_)])
