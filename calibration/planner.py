"""The planner: from a trained model, the user's photos and a budget to the precision of every layer, and the proof.

Photos, the best float model, ranges, rounded weights; then every group's time and damage; then the front of both, its
points probed again and the models refitted; then real files, held against each other on photos that nothing was chosen
on, and the pick. Whatever is computed or measured on the way is kept in the cache, so that a run that was stopped goes
on where it was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import targets
from edge_sdk.backends.base import cores, count_of
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.candidates import (
    hybrid_builds,
    linear_budgets,
    simple_builds,
    timed_build,
    with_estimates,
)
from edge_sdk.calibration.choice import pick
from edge_sdk.calibration.cost_table import estimated_costs, shipped
from edge_sdk.calibration.costs import Costs, measure_costs, refit
from edge_sdk.calibration.dataset import CalibrationSet
from edge_sdk.calibration.energy import EnergyMeter
from edge_sdk.calibration.engines.base import Engine
from edge_sdk.calibration.engines.onnxruntime import this_cpu
from edge_sdk.calibration.expected import Curve, fit_curve
from edge_sdk.calibration.export import cpu_of, keep_prepared, need_onnx, need_packages
from edge_sdk.calibration.graph import model_bytes
from edge_sdk.calibration.handover import hand_over
from edge_sdk.calibration.outcome import Candidate, Outcome
from edge_sdk.calibration.outcome_rows import as_pinned, group_rows, name_of, strongest_pairs
from edge_sdk.calibration.own_sensitivity import own, search_own
from edge_sdk.calibration.prepare import (
    PROBE_PHOTOS,
    SCHEMES,
    engine_for,
    find_ranges,
    mended_weights,
    prepare,
    provenance_of,
    tuned_ranges,
)
from edge_sdk.calibration.probing import Prober
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.request import DEFAULT_DROP, Request
from edge_sdk.calibration.search import ROUNDS, Searched, near, search, spread_out
from edge_sdk.calibration.sensitivity import Sensitivity, sweep
from edge_sdk.calibration.stages import Progress, Stages
from edge_sdk.calibration.switchable import Mask
from edge_sdk.calibration.timing import CachedTimer, LocalTimer, Timer
from edge_sdk.calibration.verification import REFERENCE, Verification, Verified, try_metric
from edge_sdk.calibration.workers import Workers
from edge_sdk.detector import Detector, find_model
from edge_sdk.device import this_device
from edge_sdk.errors import UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.plan import Plan
from edge_sdk.targets import Precision, Target

HYBRIDS = 5  # built beside the simple candidates, in the first round of verification
MORE = 3  # in the second, after both models were fitted to the first
# Shares of a time budget after which a stage goes on to the next with what it has.
_LATENCY_BY, _SENSITIVITY_BY, _SEARCH_BY, _MORE_BY = 0.35, 0.65, 0.75, 0.85


def calibrate(
    model: str | Path | None,
    images: str | Path | Sequence[str | Path],
    *,
    target: str | None = None,
    out: str | Path | None = None,
    max_map_drop: float | None = None,
    max_latency_ms: float | None = None,
    max_latency_ratio: float | None = None,
    max_size_mib: float | None = None,
    max_energy_mj: float | None = None,
    count: int = 64,
    seed: int = 0,
    threads: int = 1,
    time_budget_s: float | None = None,
    pins: Mapping[str, Precision] | None = None,
    forbid: Mapping[str, Precision] | None = None,
    metric: Any = None,
    range_method: Any = None,
    sensitivity: Any = None,
    **options: Any,
) -> Plan:
    """Finds the fastest precision for every layer that keeps the accuracy, on the user's own photos.

    Args:
        model: A file, the name of a zoo model, or None for the embedded default.
        images: A folder of photos, a video, a glob, labelled data (COCO, YOLO, VOC), or several.
        target: Name of a board; None is this one.
        out: Folder that gets plan.json, prepared.onnx, the engine's model and the report; None writes nothing.
        max_map_drop: Of mAP50-95 against the float model, 0..1; 0.005 where no budget at all is given.
        max_latency_ms: Of one inference.
        max_latency_ratio: Of one inference, against the optimized float model in the same run.
        max_size_mib: Of the engine's model file.
        max_energy_mj: Of one inference, idle power included; needs a power sensor here.
        count: Photos for ranges.
        seed: Of all that is drawn by chance.
        threads: Inside one inference, when latency is measured.
        time_budget_s: Seconds after which the best so far is taken.
        pins: Precision by group, name or pattern.
        forbid: Precisions that groups must not have, by name or pattern.
        metric: The user's own accuracy; see `edge_sdk.calibration.verification`.
        range_method: The user's own; see `edge_sdk.calibration.ranges.choose`.
        sensitivity: The user's own damage of each group; see `edge_sdk.calibration.request.Request`.
        **options: What else `plan_for` takes.

    Returns:
        The plan of the pick. `plan_for` gives all that was found.

    Raises:
        EdgeSdkError: As `plan_for` raises it.
    """
    request = Request(
        max_map_drop=max_map_drop, max_latency_ms=max_latency_ms, max_latency_ratio=max_latency_ratio,
        max_size_mib=max_size_mib, max_energy_mj=max_energy_mj, count=count, seed=seed, threads=threads,
        time_budget_s=time_budget_s, pins=pins or {}, forbid=forbid or {}, metric=metric, range_method=range_method,
        sensitivity=sensitivity,
    )  # fmt: skip
    return plan_for(model, images, request, target=target, out=out, **options).plan


def plan_for(
    model: str | Path | None,
    images: str | Path | Sequence[str | Path],
    request: Request | None = None,
    *,
    target: str | None = None,
    out: str | Path | None = None,
    start: Plan | str | Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    timer: Timer | None = None,
    estimate: bool = False,
    energy: EnergyMeter | None = None,
    cache: Cache | str | Path | None = None,
    head: str | None = None,
    card: ModelCard | str | Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Plans, and gives all that was found.

    Args:
        model: A file, the name of a zoo model, or None for the embedded default.
        images: A folder of photos, a video, a glob, labelled data (COCO, YOLO, VOC), or several.
        request: Budgets and bounds; None is a drop of at most 0.005 mAP.
        target: Name of a board; None is this one.
        out: Folder that gets plan.json, prepared.onnx, the engine's model and the report; None writes nothing.
        start: A plan whose pinned groups stay as they are.
        workers: Processes that probe and evaluate; None is one a core.
        executor: Another way to run calls: a Dask client's `get_executor`, for example. It is not shut down.
        timer: What measures latency; None is this machine.
        estimate: Take latency from the shipped table instead.
        energy: Which sensor to read; None is the board's own where there is a budget of energy, and else none is read.
        cache: Or its folder; None is the SDK's own.
        head, card: As for `Detector`.
        progress: Told how far it is.

    Raises:
        ModelError: The model is broken, is quantized already, or has nothing that can be quantized.
        UsageError: An argument that cannot mean anything, or latency cannot be known; the message says how it can.
        DatasetError: Fewer than 3 photos that differ can be read.
        PlanError: A pin that cannot be, or budgets that no plan can meet.
        BackendError: The engine failed.
        SinkError: The cache or `out` cannot be written.
        MissingDependencyError: The extra ``calibrate`` is not installed.
    """
    need_packages("pycocotools", *(() if out is None else ("plotly",)))
    need_onnx(find_model(model, "onnxruntime"))
    request = request or Request()
    board = this_device().target if target is None else targets.load(target)
    engine = engine_for(board)
    kept = cache if isinstance(cache, Cache) else Cache(cache)
    measuring = _timer(timer, board, request, kept, estimate)
    meter = _meter(energy, board, request, measuring)
    covers = [] if meter is None else [meter.check()]  # said before any work
    stages = Stages(progress, request.time_budget_s)
    with ExitStack() as stack:
        detector = stack.enter_context(Detector(model, backend="onnxruntime", threads=1, head=head, card=card))
        with stages.stage("photos", "look through the photos"):
            photos = stack.enter_context(
                CalibrationSet.open(
                    images, detector, count=request.count, seed=request.seed, folder=kept.folder / "photos",
                    progress=stages.tell,
                )
            )  # fmt: skip
        if request.metric is not None:
            try_metric(request.metric, detector, photos.truth(photos.acceptance[:3]))
        if executor is None:
            processes = Workers(workers or cores())
            stack.callback(processes.kill)
            executor = processes
        run = _Run(
            request, stages, kept, board, engine, detector, photos, measuring, meter,
            workers, executor, [*photos.report.warnings, *covers],
        )  # fmt: skip
        return run.whole(_pins_of(start), None if out is None else Path(out))


def _timer(timer: Timer | None, board: Target, request: Request, cache: Cache, estimate: bool) -> Timer | None:
    """What measures latency; None where it is estimated."""
    if estimate:
        if timer is not None:
            raise UsageError("latency is either measured or estimated: leave one out")
        shipped(engine_for(board).name, cpu_of(board, engine_for(board).name) or this_cpu())  # said before any work
        return None
    if timer is None:
        here = this_device().target
        if board.name != here.name:
            raise UsageError(
                f"how fast {board.name} is cannot be measured on this machine ({here.name}): name the board to measure "
                "on, give a recorded profile, or ask for an estimate"
            )
        timer = LocalTimer(threads=request.threads)
    return timer if isinstance(timer, CachedTimer) else CachedTimer(timer, cache)


def _pins_of(start: Plan | str | Path | None) -> dict[str, Precision]:
    if start is None:
        return {}
    plan = start if isinstance(start, Plan) else Plan.load(start)
    return {choice.group: choice.precision for choice in plan.choices if choice.pinned}


def _meter(energy: EnergyMeter | None, board: Target, request: Request, timer: Timer | None) -> EnergyMeter | None:
    """What reads energy; None where nobody asked."""
    if energy is None and request.max_energy_mj is None:
        return None
    if timer is None or board.name != this_device().target.name or timer.on != LocalTimer(threads=request.threads).on:
        raise UsageError(
            "energy is read from a sensor while the files run: plan on the board itself, with latency measured there "
            f"on {count_of(request.threads, 'thread')}"
        )
    return replace(energy or EnergyMeter(), threads=request.threads)


@dataclass(eq=False)
class _Run:
    """One run of the planner: what its stages share."""

    request: Request
    stages: Stages
    cache: Cache
    target: Target
    engine: Engine
    detector: Detector
    photos: CalibrationSet
    timer: Timer | None
    meter: EnergyMeter | None
    workers: int | None
    executor: Executor
    notes: list[str]
    repairs: tuple[str, ...] = ()
    methods: dict[str, int] = field(default_factory=dict)

    @property
    def taught(self) -> bool:
        """Whether the float model's own detections stand in for labels."""
        return self.photos.labels(self.photos.acceptance) is None

    @property
    def measure(self) -> str:
        """What accuracy is in. Only with labels has the damage a say in the pick: against the float model's own
        detections the drop itself is as sure."""
        if self.request.metric is not None:
            return name_of(self.request.metric)
        return "mAP against the float model's detections" if self.taught else "mAP"

    def curve(self, candidates: Sequence[Candidate]) -> Curve:
        """From damage to drop, as these candidates have it."""
        measured = [one.accuracy for one in candidates if one.accuracy is not None]
        return fit_curve(measured, taught=self.taught)

    def whole(self, pins: Mapping[str, Precision], out: Path | None) -> Outcome:
        """All stages in turn."""
        problem = self.problem(pins)
        costs = self.costs(problem)
        with Prober.on(
            problem, self.photos, self.photos.search[:PROBE_PHOTOS], self.detector, cache=self.cache,
            workers=self.workers, executor=self.executor, metric=self.request.probe_metric,
        ) as prober:  # fmt: skip
            sensitivity = self.sensitivity(problem, prober)
            searched = self.search(problem, prober, sensitivity, costs)
            verified, costs, searched = self.verify(problem, prober, sensitivity, searched, costs)
        if self.meter is not None:
            with self.stages.stage("energy", "read what an inference draws") as tell:
                measured = self.meter.of(
                    verified.candidates, verified.files, self.cache, progress=tell, stop=self.stages.over
                )  # fmt: skip
                verified = replace(verified, candidates=measured)
        request = self.request
        # The file as it was given computes what the optimized one does, and a plan is of the latter.
        chosen = pick(
            [one for one in verified.candidates if as_pinned(problem, one)],
            max_map_drop=request.max_map_drop,
            max_latency_ms=request.max_latency_ms,
            max_latency_ratio=request.max_latency_ratio,
            max_size_bytes=None if request.max_size_mib is None else request.max_size_mib * 2**20,
            max_energy_mj=request.max_energy_mj,
            metric=self.measure,
        )
        found = next(one for one in verified.candidates if one.name == chosen.name)
        mask = problem.off if found.mask is None else np.array(found.mask, np.bool_)
        curve = self.curve(verified.candidates)
        outcome = Outcome(
            model=self.detector.path.name,
            target=self.target.name,
            engine=self.engine.name,
            cpu=problem.cpu,
            seed=request.seed,
            plan=problem.plan(mask),
            pick=chosen,
            candidates=verified.candidates,
            groups=group_rows(problem, mask, sensitivity, searched.surrogate, costs, curve),
            front=tuple((ratio, curve.drop(damage)) for ratio, damage in searched.front),
            pairs=strongest_pairs(problem, searched.surrogate),
            r2=searched.surrogate.r2 if math.isfinite(searched.surrogate.r2) else None,
            probes=len(prober.probes),
            cost={
                "method": costs.method, "on": costs.on, "builds": len(costs.builds),
                "error_median": None if costs.error is None else costs.error[0],
                "error_max": None if costs.error is None else costs.error[1],
            },
            boundary_ms={one.tensor: (one.to_low_ms, one.to_high_ms) for one in costs.boundaries},
            photos=self.photos.report.record(),
            notes=(*self.notes, *prober.notes, *verified.notes, *(f"{n}: {why}" for n, why in verified.failed.items())),
            repairs=self.repairs,
            range_methods=self.methods,
            seconds=self.stages.seconds,
            budgets=request.budgets,
            metric="mAP50-95" if request.metric is None else name_of(request.metric),
        )  # fmt: skip
        keep_prepared(self.cache, model_bytes(problem.prepared(mask)))  # for `edge_sdk.export` of the plan alone
        if out is not None:
            with self.stages.stage("report", "write the files and the report"):
                hand_over(
                    outcome,
                    problem,
                    mask,
                    self.detector,
                    self.photos,
                    verified.run_here[chosen.name],
                    out,
                    verified.files,
                )
        return outcome

    def problem(self, pins: Mapping[str, Precision]) -> Problem:
        """The model in its best float form, its ranges, and its weights as they will be rounded."""
        request, engine = self.request, self.engine
        with self.stages.stage("model", "bring the model into its best float form"):
            prepared = prepare(self.detector, self.photos, engine)
        cpu = cpu_of(self.target, engine.name) or this_cpu()
        with self.stages.stage("ranges", "take ranges") as tell:
            ranges, prepared = find_ranges(prepared, engine, self.photos, self.cache, request, SCHEMES[cpu], tell)
        with self.stages.stage("methods", "try range methods on the detections") as tell:
            ranges, tried = tuned_ranges(
                prepared, engine, ranges, self.detector, self.photos, self.cache, workers=self.workers or cores(),
                progress=tell,
            )  # fmt: skip
        with self.stages.stage("weights", "round and repair weights"):
            mended = mended_weights(prepared, engine, cpu, ranges.limits(), self.detector, self.photos, self.cache)
        self.notes += prepared.notes
        self.repairs = (*tried, *(one.line for one in mended.trials))
        self.methods = dict(Counter(one.method for one in ranges.by_tensor.values()).most_common())
        return Problem(
            prepared.graph, prepared.sha256, engine, cpu, self.target.name, prepared.groups, ranges.limits(),
            mended.arrays, mended.repaired, {**pins, **request.settled_pins(prepared.groups)},
            provenance_of(self.detector, self.photos, engine, request),
        )  # fmt: skip

    def costs(self, problem: Problem) -> Costs:
        """What each group and each change of precision takes."""
        if self.timer is None:
            return estimated_costs(problem)
        with self.stages.stage("latency", "measure the time of groups and of changes of precision") as tell:
            return measure_costs(
                problem, self.timer, self.cache, folder=self.cache.folder / "builds", seed=self.request.seed,
                progress=lambda part: tell(round(100 * part), 100), stop=lambda: self.stages.over(_LATENCY_BY),
            )  # fmt: skip

    def sensitivity(self, problem: Problem, prober: Prober) -> Sensitivity:
        """What each group does to the detections."""
        if self.request.sensitivity is not None:
            given = own(problem, self.request.sensitivity)
            self.notes += given.notes
            return given
        with self.stages.stage("sensitivity", "measure what each group does to the detections"):
            return sweep(
                prober, problem, seed=self.request.seed, stop=lambda: self.stages.over(_SENSITIVITY_BY),
                progress=self.stages.tell,
            )  # fmt: skip

    def search(self, problem: Problem, prober: Prober, found: Sensitivity, costs: Costs) -> Searched:
        """The masks that are worth building."""
        with self.stages.stage("search", "look for the front") as tell:
            return self._front(problem, prober, found, costs, ROUNDS, _SEARCH_BY, tell)

    def _front(
        self, problem: Problem, prober: Prober, found: Sensitivity, costs: Costs, rounds: int, share: float,
        tell: Callable[[int, int], None],
    ) -> Searched:  # fmt: skip
        """The front by the sweep, or by the user's own sensitivity; until that share of the time is spent."""
        budgets = linear_budgets(problem, self.request)

        def stop() -> bool:
            return self.stages.over(share)

        if self.request.sensitivity is not None:
            return search_own(problem, prober, found, costs, budgets=budgets, stop=stop)
        return search(
            problem, prober, found.probes, costs, budgets=budgets, rounds=rounds, stop=stop, progress=tell
        )  # fmt: skip

    def verify(
        self, problem: Problem, prober: Prober, found: Sensitivity, searched: Searched, costs: Costs
    ) -> tuple[Verified, Costs, Searched]:
        """Builds and measures candidates, fits both models to them, and does so once more near the answer."""
        verification = Verification(
            problem, self.detector, self.photos, cache=self.cache, folder=self.cache.folder / "builds",
            metric=self.request.metric, seed=self.request.seed, executor=self.executor, repairs=self.repairs,
        )  # fmt: skip
        with self.stages.stage("verification", "build candidates and hold them against each other") as tell:
            builds = simple_builds(problem, costs)
            builds += hybrid_builds(problem, spread_out(searched, HYBRIDS), searched, costs, self.curve(()))
            verified = verification(builds, self.photos.acceptance, timer=self.timer, progress=tell)
            if self.timer is None:
                return with_estimates(verified, costs), costs, searched
            costs = refit(costs, [timed_build(one) for one in verified.candidates if one.mask is not None])
        if self.stages.over(_MORE_BY):
            return verified, costs, searched
        with self.stages.stage("once more", "look again, with what was measured") as tell:
            curve = self.curve(verified.candidates)
            searched = self._front(problem, prober, found, costs, 2, _MORE_BY, lambda done, total: None)
            masks = self._about(searched, verified, costs, curve)
            new = hybrid_builds(problem, masks, searched, costs, curve, known=verified.candidates)
            again = verification([builds[1], *new], self.photos.acceptance, timer=self.timer, progress=tell)
            costs = refit(costs, [timed_build(one) for one in again.candidates[1:]])
        more = [one for one in again.candidates if one.name != REFERENCE]
        return (
            Verified(
                (*verified.candidates, *more), {**verified.files, **again.files}, {**verified.failed, **again.failed},
                tuple(dict.fromkeys((*verified.notes, *again.notes))), {**verified.run_here, **again.run_here},
            ),
            costs,
            searched,
        )  # fmt: skip

    def _about(self, searched: Searched, verified: Verified, costs: Costs, curve: Curve) -> list[Mask]:
        """Masks about the budget, of which the answer will be one."""
        request = self.request
        ratio = request.max_latency_ratio
        reference = next(one for one in verified.candidates if one.name == REFERENCE)
        if ratio is None and request.max_latency_ms is not None and reference.latency is not None:
            ratio = request.max_latency_ms / reference.latency.ms
        if ratio is None and request.max_energy_mj is not None and self.meter is not None:
            # At one power energy is time: that is where to look.
            (drawn,) = self.meter.of([reference], verified.files, self.cache)
            ratio = request.max_energy_mj / drawn.energy_mj if drawn.energy_mj else None
        if ratio is not None:
            # By as much within it as the cost model is off, or half of what is built would be just beyond.
            return near(searched, MORE, ratio=ratio * (1 - (costs.error[0] if costs.error is not None else 0.0)))
        return near(searched, MORE, damage=curve.damage(request.max_map_drop or DEFAULT_DROP))
