"""A plan as the file that an engine runs: the model that it is of is found, lowered, and read back.

A plan names the layers of one prepared model, by its hash. That is the model that was given, or one that is made from
it again, or the ``prepared.onnx`` that came with the plan: whichever, its bytes are the ones that were planned for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk import targets
from edge_sdk.errors import (
    EdgeSdkError,
    MissingDependencyError,
    ModelError,
    PlanError,
    SinkError,
    UsageError,
    extra_hint,
    one_line,
)
from edge_sdk.files import replacing
from edge_sdk.models.card import ModelCard, read_sidecar, sidecar_path
from edge_sdk.models.metadata import CARD_KEY, card_fields
from edge_sdk.plan import Plan
from edge_sdk.targets import Target

if TYPE_CHECKING:
    import onnx

    from edge_sdk.calibration.cache import Cache
    from edge_sdk.calibration.engines.base import Engine

log = logging.getLogger("edge_sdk")

PREPARED = "prepared.onnx"
"""Name of the prepared model, beside a plan that the planner wrote."""

_X86 = ("generic-x86_64",)  # every other board of the tables has Arm cores
_SHOWN = 3  # layers that an error names


@dataclass(frozen=True)
class Exported:
    """A file that an engine runs, and how it came about.

    Args:
        path: Of the file.
        sha256: Of the file, in hexadecimal.
        plan_sha256: Of the plan, which the file's metadata holds too.
        target: Name of the board that it is for.
        engine: That runs it.
        cpu: What it was written for, in the engine's words.
        prepared: Which model was lowered, in words: "as given", "beside the plan", "kept in the cache", "made again".
        layers: How many nodes the plan has in each precision.
        differences: A line for each layer that does not run as planned, where that is allowed; None where this machine
            could not be asked, which has another processor.
    """

    path: Path
    sha256: str
    plan_sha256: str
    target: str
    engine: str
    cpu: str
    prepared: str
    layers: Mapping[str, int]
    differences: tuple[str, ...] | None

    def record(self) -> dict[str, Any]:
        """All of it in plain values, as JSON wants them."""
        lines = None if self.differences is None else list(self.differences)
        return {**asdict(self), "path": str(self.path), "differences": lines}


def export(
    model: str | os.PathLike[str],
    plan: Plan | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str | None = None,
    cpu: str | None = None,
    card: ModelCard | Path | str | None = None,
    head: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    allow_differences: bool = False,
) -> Path:
    """Writes the file of a plan, whole or not at all, and reads it back from the engine.

    A file for another processor than this machine's cannot be read back here, which is a warning.

    How the model is fed and read (its card) is written into the file, so that it needs no sidecar.

    Args:
        model: The model that was calibrated, a file or the name of a zoo model, or the ``prepared.onnx`` that came
            with the plan.
        plan: A plan, or its file.
        out: The file to write, ``.onnx``.
        target: Name of another board than the plan is for. What the plan asks must be legal there; nobody has looked
            for the best plan for it.
        cpu: What the file will run on, in the engine's words; for ONNX Runtime ``x86``, ``x86-vnni`` or ``arm``. None
            goes by the target, and by this machine where the target is of its kind.
        card: How the model is fed and read, where it does not say so itself.
        head: Name of the head, where several fit.
        cache: Where the planner kept the prepared model; None for the usual place.
        allow_differences: A layer that does not run as planned is a warning and no error.

    Returns:
        `out`.

    Raises:
        ModelNotFoundError: There is no such model.
        ModelError: The model is broken, or is none of ONNX.
        PlanError: The plan is broken, is of another model, asks what the engine cannot do, or the engine does not run
            it as planned; the last names the layers.
        TargetError: There is no such board.
        UsageError: An argument that cannot mean anything, or the board has no engine that plans are lowered to.
        SinkError: `out` cannot be written.
        MissingDependencyError: The extra ``calibrate`` is not installed.
    """
    done = export_file(
        model, plan, out, target=target, cpu=cpu, card=card, head=head, cache=cache, allow_differences=allow_differences
    )
    return done.path


def export_file(
    model: str | os.PathLike[str],
    plan: Plan | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str | None = None,
    cpu: str | None = None,
    card: ModelCard | Path | str | None = None,
    head: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    allow_differences: bool = False,
) -> Exported:
    """The same as `export`, and tells what was done."""
    need_packages()
    from edge_sdk.detector import find_model

    file, written = find_model(os.fspath(model)), Path(out)
    need_onnx(file)
    if written.suffix.lower() != ".onnx":
        raise UsageError(f"{written}: the file to write must end in .onnx")
    if written.resolve() in (file.resolve(), None if isinstance(plan, Plan) else Path(plan).resolve()):
        raise UsageError(f"{written}: would be written over what it is made from; name another file")
    beside = None if isinstance(plan, Plan) else Path(plan).parent / PREPARED
    plan = plan if isinstance(plan, Plan) else Plan.load(plan)
    board = targets.load(plan.target if target is None else target)
    engine = _engine(board, plan)
    _check_legal(board, engine, plan)
    cpu = cpu_of(board, engine.name) if cpu is None else cpu
    prepared, how = _prepared(file, plan, engine, beside, cache, card, head)
    lowered = engine.lower(prepared, plan, cpu=cpu)
    with_card(lowered, _stated(file, lowered, card, head))
    here = runs_here(cpu)
    sha256, differences = write(
        lowered, prepared, plan, engine, written, read_back=here, allow_differences=allow_differences
    )
    if not here:
        log.warning("%s is for another processor (%s): it was not read back from the engine", written.name, cpu)
    if plan.target != board.name:
        log.warning("the plan was made for %s: how fast and exact it is on %s is not known", plan.target, board.name)
    layers: Counter[str] = Counter()
    for choice in plan.choices:
        layers[choice.precision] += len(choice.nodes)
    return Exported(
        written, sha256, plan.sha256, board.name, engine.name, cpu or "", how, dict(sorted(layers.items())), differences
    )


def write(
    lowered: onnx.ModelProto,
    prepared: onnx.ModelProto,
    plan: Plan,
    engine: Engine,
    out: Path,
    *,
    read_back: bool = True,
    allow_differences: bool = False,
) -> tuple[str, tuple[str, ...] | None]:
    """Writes a lowered model, whole or not at all, once the engine has been asked what it makes of it.

    Args:
        lowered: From the engine's `lower`.
        prepared: The model that it was made from.
        plan: That it was made by.
        engine: That runs it.
        out: The file.
        read_back: Whether this machine can be asked.
        allow_differences: A layer that does not run as planned is a warning and no error.

    Returns:
        The file's sha256, in hexadecimal, and a line for each layer that does not run as planned; None where that was
        not asked.

    Raises:
        PlanError: A layer does not run as planned; nothing is written.
        BackendError: The engine cannot open or run the file; nothing is written.
        SinkError: The file cannot be written.
    """
    from edge_sdk.calibration.graph import model_bytes

    content = model_bytes(lowered)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
        differences = plan.differences(engine.read_back(temporary, prepared)) if read_back else None
        if differences and not allow_differences:
            more = f" (and {len(differences) - _SHOWN} more)" if len(differences) > _SHOWN else ""
            raise PlanError(
                f"{engine.name} does not run the file as planned: {'; '.join(differences[:_SHOWN])}{more}. "
                "Choose for these layers what they run in, or allow differences"
            )
    for line in differences or ():
        log.warning("%s: %s", out.name, line)
    return hashlib.sha256(content).hexdigest(), differences


# --- the prepared model --------------------------------------------------------------------------


def keep_prepared(cache: Cache, content: bytes) -> str:
    """Keeps a prepared model where `find_prepared` looks.

    Args:
        cache: The planner's.
        content: Of the file, from `edge_sdk.calibration.graph.model_bytes`.

    Returns:
        Its sha256, in hexadecimal.

    Raises:
        SinkError: It cannot be written.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    key = _prepared_key(cache, sha256)
    if cache.get_bytes(key) is None:
        cache.put_bytes(key, content)
    return sha256


def find_prepared(cache: Cache, sha256: str) -> onnx.ModelProto | None:
    """The prepared model of this hash, or None where it was not kept."""
    import onnx

    content = cache.get_bytes(_prepared_key(cache, sha256))
    if content is None or hashlib.sha256(content).hexdigest() != sha256:
        return None
    return onnx.load_model_from_string(content)


def _prepared_key(cache: Cache, sha256: str) -> str:
    return cache.key({"what": "prepared model", "sha256": sha256})


def _prepared(
    file: Path,
    plan: Plan,
    engine: Engine,
    beside: Path | None,
    cache: str | os.PathLike[str] | None,
    card: ModelCard | Path | str | None,
    head: str | None,
) -> tuple[onnx.ModelProto, str]:
    """The model that the plan is of, and where it was found."""
    from edge_sdk.calibration.graph import sha256_of
    from edge_sdk.calibration.loading import load

    wanted = plan.prepared_sha256
    given = load(file)
    if sha256_of(given) == wanted:
        return given, "as given"
    # What lies beside the plan is taken for the model that was given only if the plan says that it was made from it.
    mine = plan.provenance.get("model_sha256") == _sha256(file)
    if mine:
        if beside is not None and beside.is_file() and _sha256(beside) == wanted:
            return load(beside), "beside the plan"
        if (kept := _kept(cache, wanted)) is not None:
            return kept, "kept in the cache"
    try:
        for made in _made_again(file, engine, card, head):
            if sha256_of(made) == wanted:
                return made, "made again"
        why = (
            "other versions of the SDK or of ONNX Runtime may prepare it otherwise, and repaired weights are not in it"
        )
    except SinkError:
        raise
    except EdgeSdkError as error:
        why = one_line(error)
    if mine:
        raise PlanError(f"the model that the plan is of cannot be made from {file.name} ({why}): give {_which(beside)}")
    named = plan.provenance.get("model")
    raise PlanError(
        f"{file.name} is not the model that the plan is of: give {f'{named}, or ' if named else ''}{_which(beside)}"
    )


def _sha256(path: Path) -> str:
    from edge_sdk.models import zoo

    with path.open("rb") as file:
        return zoo.sha256_of(file)


def _which(beside: Path | None) -> str:
    return f"the {PREPARED} that came with the plan" + (f" (there is none at {beside})" if beside is not None else "")


def _kept(cache: str | os.PathLike[str] | None, sha256: str) -> onnx.ModelProto | None:
    from edge_sdk.calibration.cache import Cache

    try:
        return find_prepared(Cache(cache), sha256)
    except SinkError as error:  # no place for a cache is no reason to fail: there may be nothing in it
        log.info("no cache: %s", one_line(error))
        return None


def _made_again(
    file: Path, engine: Engine, card: ModelCard | Path | str | None, head: str | None
) -> list[onnx.ModelProto]:
    """What the planner may have made of a model: without and with the card in it."""
    from edge_sdk.calibration.canonical import canonical
    from edge_sdk.calibration.rewrites import rewrite
    from edge_sdk.detector import Detector

    with Detector(file, backend="onnxruntime", threads=1, card=card, head=head) as detector:
        shapes = {name: array.shape for name, array in detector.own.feeds.items()}
        whole = asdict(detector.card)
    best = rewrite(canonical(file, shapes=shapes), engine=engine.name).model
    copy = type(best)()
    copy.CopyFrom(best)
    return [best, with_card(copy, whole)]


# --- target, engine, processor -------------------------------------------------------------------


def _engine(board: Target, plan: Plan) -> Engine:
    """The engine that a plan was made for, where the board has it, or the board's own."""
    from edge_sdk.calibration.engines.base import engines

    names = [name for name in (plan.provenance.get("engine"), *board.backends) if name in board.backends]
    for name in names:
        if name in engines():
            return engines()[name]
    raise UsageError(
        f"no plan can be lowered for {board.name}: it runs {' and '.join(board.backends) or 'nothing'}, "
        f"and there are {', '.join(sorted(engines()))}"
    )


def _check_legal(board: Target, engine: Engine, plan: Plan) -> None:
    computes = {*board.precisions.get(engine.name, ()), engine.rules.precisions[-1]}
    for choice in plan.choices:
        if choice.precision not in computes:
            raise PlanError(
                f"group {choice.group!r} cannot run in {choice.precision} on {board.name}: "
                f"{engine.name} computes {' and '.join(sorted(computes))} there"
            )


def cpu_of(board: Target, engine: str) -> str | None:
    """What a board computes with, in the words of an engine; None where the engine does not ask.

    Args:
        board: Its processor decides, and this machine's instructions where both are of one kind.
        engine: Name of the engine.
    """
    if engine != "onnxruntime":
        return None
    from edge_sdk.calibration.engines.onnxruntime import this_cpu

    here = this_cpu()
    if board.name == "generic-unknown":
        return here
    if not any(board.is_a(name) for name in _X86):
        return "arm"
    return "x86" if here == "arm" else here


def runs_here(cpu: str | None) -> bool:
    """Whether this machine's processor is of the kind: on another, the engine has other kernels.

    Args:
        cpu: In the engine's words; None where the engine does not ask.
    """
    from edge_sdk.calibration.engines.onnxruntime import this_cpu

    return cpu is None or (cpu == "arm") == (this_cpu() == "arm")


# --- the card ------------------------------------------------------------------------------------


def with_card(model: onnx.ModelProto, fields: Mapping[str, Any]) -> onnx.ModelProto:
    """Writes card fields into a model's metadata, in place; none of them leaves it as it is.

    Args:
        model: Its other metadata stays.
        fields: Of a `ModelCard`; those that are None are left out.

    Returns:
        `model`.
    """
    import onnx

    known = {name: value for name, value in sorted(fields.items()) if value is not None}
    if known:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, {**metadata, CARD_KEY: json.dumps(known)})
    return model


def _stated(
    file: Path, model: onnx.ModelProto, card: ModelCard | Path | str | None, head: str | None
) -> Mapping[str, Any]:
    """Card fields that somebody wrote down outside the model, and those in it with them; empty where all are in it."""
    if isinstance(card, ModelCard):
        return {**asdict(card), **({"head": head} if head else {})}
    sidecar = Path(card) if card is not None else sidecar_path(file)
    outside: dict[str, Any] = read_sidecar(sidecar) if card is not None or sidecar.is_file() else {}
    if head is not None:
        outside["head"] = head
    if not outside:
        return {}
    return {**card_fields({entry.key: entry.value for entry in model.metadata_props}), **outside}


def need_onnx(file: Path) -> None:
    """Raises where a model is of another kind than plans are made from, before anything else is done with it.

    Args:
        file: That is there.

    Raises:
        ModelError: It is none of ONNX, by its name.
    """
    if file.suffix.lower() != ".onnx":
        raise ModelError(
            f"{file.name}: plans are made from ONNX models; give the one that this was made from, as .onnx"
        )


def need_packages(*more: str) -> None:
    """Raises where a package is missing that calibration stands on.

    Args:
        *more: Packages that are needed besides.

    Raises:
        MissingDependencyError: Naming it and the extra that brings it.
    """
    for name in ("onnx", "onnxruntime", "scipy", *more):
        try:
            __import__(name)
        except ImportError as error:
            raise MissingDependencyError(f"{name} is not installed: {extra_hint('calibrate')}") from error
