"""What is handed over: all files, each whole, and the same file again from the plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import edge_sdk
from edge_sdk.errors import SinkError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")
pytest.importorskip("pycocotools")
pytest.importorskip("plotly")

from edge_sdk.calibration import planner  # noqa: E402
from edge_sdk.calibration.handover import hand_over, model_name  # noqa: E402
from edge_sdk.calibration.outcome import Outcome  # noqa: E402
from edge_sdk.calibration.report import read  # noqa: E402
from edge_sdk.calibration.request import Request  # noqa: E402
from edge_sdk.plan import Plan  # noqa: E402
from tests.flows.stand_in import run  # noqa: E402
from tests.models.tiny_yolox import write, write_photos  # noqa: E402

PLAN_SCHEMA = Path(edge_sdk.__file__).with_name("plan.schema.json")
WANTED = Request(count=4, max_latency_ratio=0.9)
FILES = {"plan.json", "prepared.onnx", "tiny.generic-x86_64.onnx", "report.html", "report.json"}


@dataclass(frozen=True)
class Delivery:
    """A run with what it wrote."""

    folder: Path
    outcome: Outcome

    out = property(lambda self: self.folder / "out")
    model = property(lambda self: self.folder / "tiny.onnx")
    photos = property(lambda self: self.folder / "photos")

    def plan(self) -> Plan:
        return Plan.load(self.out / "plan.json")

    def again(self, out: Path, **options: Any) -> Outcome:
        """The same from the cache, into another folder."""
        return run(self.model, self.photos, self.folder, WANTED, out=out, **options)


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    folder = tmp_path_factory.mktemp("handover")
    model, photos = write(folder / "tiny.onnx"), write_photos(folder / "photos", range(12))
    return Delivery(folder, run(model, photos, folder, WANTED))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_metadata(path: Path) -> bytes:
    model = onnx.load(path)
    del model.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def test_all_files_are_there_and_nothing_else_is_left(delivery: Delivery) -> None:
    names = {path.name for path in delivery.out.iterdir()}
    assert names >= FILES
    assert not [name for name in names if name.startswith(".")]
    assert model_name(delivery.outcome) in names


def test_the_plan_is_of_its_schema_and_says_what_it_was_made_from(delivery: Delivery) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    plan = json.loads((delivery.out / "plan.json").read_text(encoding="utf-8"))
    schema = json.loads(PLAN_SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(plan)
    assert plan["provenance"]["model_sha256"] == sha256(delivery.model)
    assert delivery.plan() == delivery.outcome.plan


def test_the_plan_names_the_prepared_model_beside_it(delivery: Delivery) -> None:
    assert delivery.plan().prepared_sha256 == sha256(delivery.out / "prepared.onnx")


@pytest.mark.parametrize("source", ["prepared.onnx", "the float model"])
def test_export_of_the_plan_gives_the_same_file_but_for_metadata(
    source: str, delivery: Delivery, tmp_path: Path
) -> None:
    model = delivery.out / source if source.endswith("onnx") else delivery.model
    made = edge_sdk.export(
        model, delivery.out / "plan.json", tmp_path / "again.onnx", head="yolox", cache=delivery.folder / "cache"
    )
    assert without_metadata(made) == without_metadata(delivery.out / model_name(delivery.outcome))


def test_the_engines_file_is_the_candidate_that_was_measured(delivery: Delivery) -> None:
    built = delivery.folder / "cache/builds" / f"{delivery.outcome.picked.sha256[:32]}.onnx"
    assert without_metadata(built) == without_metadata(delivery.out / model_name(delivery.outcome))


def test_the_engines_file_detects_by_itself(delivery: Delivery) -> None:
    photo = sorted(delivery.photos.glob("*.png"))[0]
    with edge_sdk.Detector(delivery.out / model_name(delivery.outcome), threads=1) as detector:
        assert detector.class_names == ("red", "green")
        found = detector(edge_sdk.sources.files.read_photo(photo))
    assert len(found) > 0


def test_the_report_holds_what_the_outcome_does(delivery: Delivery) -> None:
    found = read(delivery.out / "report.json")
    assert found.plan == delivery.outcome.plan
    assert found.pick == delivery.outcome.pick
    assert found.candidates == delivery.outcome.candidates


def test_a_folder_that_cannot_be_made_is_named(delivery: Delivery, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SinkError, match="file"):
        delivery.again(tmp_path / "file")


@pytest.mark.parametrize("failing", ["prepared.onnx", "tiny.generic-x86_64.onnx", "plan.json", "report.json"])
def test_a_write_that_fails_leaves_no_half_file_and_the_files_of_before(
    failing: str, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when this file is half written."""
    out = tmp_path / "out"
    out.mkdir()
    (out / failing).write_bytes(b"of before")
    real: Callable[..., Any] = Path.replace

    def full(self: Path, target: Path) -> Any:
        if Path(target).name == failing:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SinkError, match=f"{failing}: cannot be written: No space left"):
        delivery.again(out)
    assert (out / failing).read_bytes() == b"of before"
    assert not list(out.glob(".*"))
    whole = [path for path in out.glob("*.onnx") if path.name != failing]
    assert all(sha256(path) == sha256(delivery.out / path.name) for path in whole)


def test_it_is_called_with_the_mask_of_the_pick(
    delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(planner, "hand_over", lambda *words: given.append(words) or hand_over(*words))
    delivery.again(tmp_path / "out")
    outcome, problem, mask, *_ = given[0]
    assert tuple(mask.tolist()) == outcome.picked.mask
    assert problem.mask_of(outcome.plan).tolist() == mask.tolist()
