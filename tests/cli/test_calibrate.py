"""edge-sdk calibrate: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")
pytest.importorskip("pycocotools")
pytest.importorskip("plotly")

from edge_sdk.calibration import planner, timing
from edge_sdk.calibration.report_record import SCHEMA_FILE
from edge_sdk.plan import Plan
from tests.flows.stand_in import StandIn, run

from ..models.tiny_yolox import write, write_photos  # noqa: TID252  there is no package of tests to name


@dataclass(frozen=True)
class Desk:
    """A model and photos, and a cache that all runs here share."""

    folder: Path

    model = property(lambda self: self.folder / "tiny.onnx")
    photos = property(lambda self: self.folder / "photos")
    cache = property(lambda self: self.folder / "cache")

    def words(self, out: Path, *more: object) -> list[object]:
        return [
            "calibrate", self.model, "--images", self.photos, "--count", 4, "--workers", 1, "--cache", self.cache,
            "--out", out, *more,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    write(folder / "tiny.onnx")
    write_photos(folder / "photos", range(12))
    run(folder / "tiny.onnx", folder / "photos", folder, planner.Request(count=4))
    return Desk(folder)


@pytest.fixture(autouse=True)
def clockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is a board whose figures are the stand-in's."""
    monkeypatch.setenv("EDGE_SDK_TARGET", "generic-x86_64")
    for module in (planner, timing):
        monkeypatch.setattr(module, "LocalTimer", lambda threads: StandIn())


Command = Callable[..., Any]


def test_it_says_what_was_chosen_and_where_it_lies(edge_sdk_command: Command, desk: Desk, tmp_path: Path) -> None:
    ran = edge_sdk_command(*desk.words(tmp_path / "out"))
    plan = Plan.load(tmp_path / "out/plan.json")
    assert ran.code == 0
    assert f"written to {tmp_path / 'out'}: plan.json, prepared.onnx, tiny.generic-x86_64.onnx, report.html" in ran.out
    for name in ("uniform int8", "optimized float", "mAP"):
        assert name in ran.out
    assert plan.target == "generic-x86_64"
    assert "take ranges" in ran.err, "how far it is goes to standard error"
    assert "take ranges" not in ran.out


def test_json_is_of_its_schema_and_nothing_else(edge_sdk_command: Command, desk: Desk, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ran = edge_sdk_command(*desk.words(tmp_path / "out", "--max-latency-ratio", 0.8, "--json"))
    assert ran.code == 0
    found = ran.json
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))).validate(found)
    picked = next(one for one in found["candidates"] if one["name"] == found["pick"]["name"])
    assert found["pick"]["met"]
    assert picked["latency"]["ratio"] <= 0.8
    assert found["budgets"] == {"max_latency_ratio": 0.8}
    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    assert {**report, "seconds": None} == {**found, "seconds": None}


def test_a_folder_is_named_after_the_model_where_none_is_given(
    edge_sdk_command: Command, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = desk.words(tmp_path)
    at = words.index("--out")
    ran = edge_sdk_command(*words[:at], *words[at + 2 :])
    assert ran.code == 0
    assert (tmp_path / "tiny_plan/plan.json").is_file()


def test_pins_and_what_is_forbidden_hold(edge_sdk_command: Command, desk: Desk, tmp_path: Path) -> None:
    words = ["--pin", "stem=fp32", "--pin", "stage1=int8", "--forbid", "head*=int8", "--max-latency-ratio", 0.99]
    assert edge_sdk_command(*desk.words(tmp_path / "out", *words)).code == 0
    found = {one.group: one for one in Plan.load(tmp_path / "out/plan.json").choices}
    assert (found["stem"].precision, found["stem"].pinned) == ("fp32", True)
    assert (found["stage1"].precision, found["stage1"].pinned) == ("int8", True)
    heads = [one for name, one in found.items() if name.endswith(".pred")]
    assert {(one.precision, one.pinned) for one in heads} == {("fp32", True)}
    assert not found["stage2"].pinned


def test_a_plan_that_was_edited_by_hand_keeps_what_was_pinned(
    edge_sdk_command: Command, desk: Desk, tmp_path: Path
) -> None:
    assert edge_sdk_command(*desk.words(tmp_path / "first")).code == 0
    edited = json.loads((tmp_path / "first/plan.json").read_text())
    for one in edited["choices"]:
        if one["group"] in ("stage2", "stage3"):
            one["precision"], one["pinned"] = "fp32", True
    (tmp_path / "mine.json").write_text(json.dumps(edited))
    again = edge_sdk_command(*desk.words(tmp_path / "second", "--start", tmp_path / "mine.json"))
    assert again.code == 0
    kept = [one for one in Plan.load(tmp_path / "second/plan.json").choices if one.pinned]
    assert {(one.group, one.precision) for one in kept} == {("stage2", "fp32"), ("stage3", "fp32")}


def test_latencies_that_the_cache_knew_already_are_saved_too_and_give_the_same_plan(
    edge_sdk_command: Command, desk: Desk, tmp_path: Path
) -> None:
    profile = tmp_path / "latencies.json"
    assert edge_sdk_command(*desk.words(tmp_path / "first", "--save-profile", profile)).code == 0
    assert profile.is_file()
    assert edge_sdk_command(*desk.words(tmp_path / "second", "--profile", profile)).code == 0
    first, second = ((tmp_path / name / "plan.json").read_bytes() for name in ("first", "second"))
    assert first == second


@pytest.mark.slow
def test_latencies_that_were_saved_give_the_same_plan_with_another_cache(
    edge_sdk_command: Command, desk: Desk, tmp_path: Path
) -> None:
    profile = tmp_path / "latencies.json"
    saving = desk.words(tmp_path / "first", "--save-profile", profile, "--cache", tmp_path / "cache1")
    assert edge_sdk_command(*saving).code == 0
    reading = desk.words(tmp_path / "second", "--profile", profile, "--cache", tmp_path / "cache2")
    assert edge_sdk_command(*reading).code == 0
    first, second = ((tmp_path / name / "plan.json").read_bytes() for name in ("first", "second"))
    assert first == second


def test_an_estimate_says_so(edge_sdk_command: Command, desk: Desk, tmp_path: Path) -> None:
    ran = edge_sdk_command(*desk.words(tmp_path / "out", "--estimate"))
    assert ran.code == 0
    assert "estimated" in ran.out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--estimate", "--device", "pi@board"], 2, "three ways to know latency: choose one"),
        (["--estimate", "--profile", "x.json"], 2, "three ways to know latency: choose one"),
        (["--profile", "x.json", "--device", "pi@board"], 2, "three ways to know latency: choose one"),
        (["--target", "raspberry-pi-5"], 2, "cannot be measured on this machine"),
        (["--pin", "stem"], 2, "--pin"),
        (["--pin", "stem=int3"], 2, "there is no such precision"),
        (["--pin", "steam=int8"], 1, "no group or node 'steam'"),
        (["--pin", "stem=int8", "--forbid", "stem=int8"], 1, "pinned to int8, which is forbidden"),
        (["--max-latency-ms", "-1"], 2, "max_latency_ms must be above 0"),
        (["--max-map-drop", "2"], 2, "max-map-drop"),
        (["--count", "0"], 2, "count"),
        (["--start", "nowhere.json"], 1, "nowhere.json"),
        (["--profile", "nowhere.json"], 1, "nowhere.json"),
        (["--target", "toaster"], 1, "toaster"),
        (["--max-energy-mj", "0"], 2, "max_energy_mj must be above 0"),
        (["--max-energy-mj", "9", "--estimate"], 2, "plan on the board itself"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    words: list[str], code: int, says: str, edge_sdk_command: Command, desk: Desk, tmp_path: Path
) -> None:
    ran = edge_sdk_command(*desk.words(tmp_path / "out", *words))
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out/plan.json").exists()


@pytest.mark.usefixtures("no_sensor")
def test_a_budget_of_energy_wants_a_sensor(edge_sdk_command: Command, desk: Desk, tmp_path: Path) -> None:
    ran = edge_sdk_command(*desk.words(tmp_path / "out", "--max-energy-mj", "9"))
    assert (ran.code, ran.out) == (1, "")
    assert "a budget of energy needs a power sensor" in ran.err


def test_photos_are_asked_for(edge_sdk_command: Command, desk: Desk, tmp_path: Path) -> None:
    assert edge_sdk_command("calibrate", desk.model).code == 2
    ran = edge_sdk_command("calibrate", desk.model, "--images", tmp_path / "none", "--cache", desk.cache)
    assert ran.code == 1
    assert "no such file" in ran.err
