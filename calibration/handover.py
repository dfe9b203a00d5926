"""What is handed over: the plan, the prepared model, the engine's model, and the report with photos."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edge_sdk.calibration.dataset import CalibrationSet
from edge_sdk.calibration.export import runs_here, with_card, write
from edge_sdk.calibration.graph import model_bytes
from edge_sdk.calibration.outcome import Outcome
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.report import Example, telling, write_report
from edge_sdk.calibration.switchable import Mask
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector
from edge_sdk.errors import SinkError, one_line
from edge_sdk.files import replacing

_SEEN = 64  # acceptance photos from which those that are shown are chosen
_FLOOR = 0.05  # candidates above it tell photos that differ from those that do not


def model_name(outcome: Outcome) -> str:
    """Name of the engine's file: the model's with the target's."""
    return f"{Path(outcome.model).stem}.{outcome.target}.onnx"


def hand_over(
    outcome: Outcome,
    problem: Problem,
    mask: Mask,
    detector: Detector,
    photos: CalibrationSet,
    run_here: Path,
    out: Path,
    files: Mapping[str, Path] | None = None,
) -> None:
    """Writes all files, each whole or not at all; the report last.

    Args:
        outcome: What was found.
        problem: That was solved.
        mask: Of the pick.
        detector: Of the float model as it was given.
        photos: Of which some are shown.
        run_here: The pick's file for this processor, which finds what is shown in the photos.
        out: Folder; made where it is not there.
        files: Of the candidates, by their names, as `Verified.files`: those that were built go into the folder
            ``candidates``.

    Raises:
        SinkError: They cannot be written.
        MissingDependencyError: Plotly is not installed, which draws the page's plots; the other files are there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{out}: cannot be made: {one_line(error)}") from error
    prepared = problem.prepared(mask)
    with replacing(out / "prepared.onnx") as temporary:
        temporary.write_bytes(model_bytes(prepared))
    lowered = with_card(problem.engine.lower(prepared, outcome.plan, cpu=problem.cpu), asdict(detector.card))
    file = out / model_name(outcome)
    here = runs_here(problem.cpu)  # on another processor the engine has other kernels: what it says here means nothing
    write(lowered, prepared, outcome.plan, problem.engine, file, read_back=here, allow_differences=True)
    outcome.plan.save(out / "plan.json")
    _keep(outcome, files or {}, out / "candidates")
    write_report(outcome, out, _examples(run_here, detector, photos), detector.class_names)


def candidate_file(name: str) -> str:
    """Name of a candidate's file: its own in letters and digits, "int8, head in fp32" as ``int8_head_in_fp32.onnx``."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}.onnx"


def _keep(outcome: Outcome, files: Mapping[str, Path], folder: Path) -> None:
    """The candidates' files, so that another point of the front is at hand; the one that was given is left out."""
    built = [one.name for one in outcome.candidates if one.mask is not None and one.name in files]
    if not built:
        return
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: cannot be made: {one_line(error)}") from error
    for name in built:
        with replacing(folder / candidate_file(name)) as temporary:
            shutil.copyfile(files[name], temporary)


def _examples(file: Path, detector: Detector, photos: CalibrationSet) -> list[Example]:
    """Acceptance photos that tell most, with what the float model and the pick find in them."""
    with Detector(file, backend="onnxruntime", threads=1, card=detector.card, confidence=_FLOOR) as picked:
        usual, detector.confidence = detector.confidence, _FLOOR
        try:
            before: list[Detections] = []
            after: list[Detections] = []
            for one in photos.acceptance[:_SEEN]:
                image = photos.picture(one)
                before.append(detector(image))
                after.append(picked(image))
        finally:
            detector.confidence = usual
    return [
        Example(
            photos.acceptance[place].path.name, photos.picture(photos.acceptance[place]), before[place], after[place],
            why,
        )
        for place, why in telling(before, after)
    ]  # fmt: skip
