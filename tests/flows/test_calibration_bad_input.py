"""The second walk with what people really bring: odd models, strange photos, a full disk. Each a clear answer."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import (
    BackendError,
    DatasetError,
    EdgeSdkError,
    ModelError,
    PlanError,
    SinkError,
    SourceError,
    UsageError,
)
from edge_sdk.plan import Plan

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")
pytest.importorskip("pycocotools")

from edge_sdk.calibration import planner  # noqa: E402
from edge_sdk.calibration.cache import Cache  # noqa: E402
from edge_sdk.calibration.canonical import canonical  # noqa: E402
from edge_sdk.calibration.dataset import CalibrationSet  # noqa: E402
from edge_sdk.calibration.graph import save_model  # noqa: E402
from edge_sdk.calibration.outcome import Timed  # noqa: E402
from edge_sdk.calibration.prepare import engine_for, find_ranges, prepare  # noqa: E402
from edge_sdk.calibration.request import Request  # noqa: E402

from ..models.tiny_yolox import SIDE, build, write, write_photos  # noqa: E402, TID252  there is no package of tests to name
from .shop import Shop  # noqa: E402


class QuickTimer:
    """Every convolution in INT8 saves two hundredths of what is left; no clock is asked."""

    method = "measured"
    on = "the timer of this test"
    settings: Mapping[str, Any] = {}

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        taken = {name: self._ms(path) for name, path in files.items()}
        return {
            name: Timed(ms, ms / taken[reference], ms / taken[reference], ms / taken[reference], "measured")
            for name, ms in taken.items()
        }

    def layers(self, file: Path) -> Sequence[Any]:
        from edge_sdk.calibration.timing import LocalTimer

        return LocalTimer().layers(file)

    @staticmethod
    def _ms(path: Path) -> float:
        nodes = onnx.load(path).graph.node
        low = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        return float(0.98 ** sum(node.op_type == "Conv" and low.issuperset(node.input[:2]) for node in nodes))


def first_stages(model: Path, images: object, folder: Path, **options: Any) -> tuple[str, ...]:
    """As far as the planner goes before it searches: photos, the model, ranges. What it noted and warned of."""
    engine = engine_for(edge_sdk.targets.load("generic-x86_64"))
    request = Request(count=8, range_method=options.get("range_method"))
    with (
        edge_sdk.Detector(model, backend="onnxruntime", threads=1, card=options.get("card")) as detector,
        CalibrationSet.open(images, detector, count=8) as photos,  # type: ignore[arg-type]
    ):
        best = prepare(detector, photos, engine)
        _, best = find_ranges(best, engine, photos, Cache(folder / "cache"), request, "uint8", lambda *_: None)
        return (*best.notes, *photos.report.warnings)


def calibrate(model: Path, images: object, folder: Path, **options: Any) -> Plan:
    """A whole run, with a timer that needs no time."""
    quick = {"timer": QuickTimer(), "workers": 1, "count": 8, "out": folder / "out", "cache": folder / "cache"}
    return planner.calibrate(model, images, **quick | options)  # type: ignore[arg-type]


def report(folder: Path) -> str:
    return json.dumps(json.loads((folder / "out/report.json").read_text(encoding="utf-8")), ensure_ascii=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), range(24))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "tiny.onnx")


# --- models that work all the same, and what is said of them --------------------------------------


def odd_model(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.onnx"
    if kind == "external":
        onnx.save(
            build(), path, save_as_external_data=True, all_tensors_to_one_file=True, location="weights.bin",
            size_threshold=100,
        )  # fmt: skip
        return path
    if kind == "dynamic":
        path.with_suffix(".toml").write_text(f"input_hw = [{SIDE}, {SIDE}]\n")
    return write(path, kind)  # type: ignore[arg-type]


ODD = [
    ("einsum", "1 groups stay in fp32: ONNX Runtime has no INT8 Einsum"),
    ("foreign", "1 groups stay in fp32: com.microsoft.Gelu is no standard operator"),
    ("dynamic", "the input 'images' was [1, 3, h, w]; the plan is for [1, 3, 64, 64] alone"),
    ("two_inputs", None),
    ("half", "16-bit floats are held as 32-bit ones of the same values"),
    ("external", None),
    ("nothing", "the float model finds nothing in 24 of 24 pictures"),
]


@pytest.mark.parametrize(("kind", "says"), ODD)
def test_an_odd_model_is_prepared_and_what_is_odd_is_noted(
    kind: str, says: str | None, photos: Path, tmp_path: Path
) -> None:
    notes = first_stages(odd_model(kind, tmp_path), photos, tmp_path)
    assert says is None or any(says in note for note in notes), notes


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "says"), ODD)
def test_an_odd_model_is_planned_and_exported(kind: str, says: str | None, photos: Path, tmp_path: Path) -> None:
    given = odd_model(kind, tmp_path)
    plan = calibrate(given, photos, tmp_path, max_map_drop=0.5)
    assert says is None or says in report(tmp_path)
    edge_sdk.export(given, tmp_path / "out/plan.json", tmp_path / "exported.onnx", cache=tmp_path / "cache")
    card = given.with_suffix(".toml")
    with (
        edge_sdk.Detector(tmp_path / "exported.onnx", threads=1) as made,
        edge_sdk.Detector(given, backend="onnxruntime", threads=1) as was,
    ):
        assert made.class_names == was.class_names == ("red", "green")
        assert made.card.input_hw == (SIDE, SIDE), card
        image = cv2.imread(str(sorted(photos.glob("*.png"))[0]))
        assert set(made(image).class_id.tolist()) == set(was(image).class_id.tolist())
    assert {choice.precision for choice in plan.choices} <= {"int8", "fp32"}


@pytest.mark.slow
def test_a_model_of_other_classes_is_planned_end_to_end(shared: Path, tmp_path: Path) -> None:
    """Faces, a head of their own, and photos without labels: nothing of COCO's."""
    faces = shared / "models/ultraface/version-RFB-320.onnx"
    images = sorted((shared / "data/coco_calib/images").glob("*.jpg"))[:48]
    calibrate(faces, images, tmp_path, count=16)
    edge_sdk.export(faces, tmp_path / "out/plan.json", tmp_path / "faces.onnx", cache=tmp_path / "cache")
    with edge_sdk.Detector(tmp_path / "faces.onnx", threads=1) as made, edge_sdk.Detector(faces, threads=1) as was:
        assert made.class_names == was.class_names
        counts = [(len(made(image)), len(was(image))) for image in map(cv2.imread, map(str, images))]
    found, wanted = (sum(column) for column in zip(*counts, strict=True))
    assert wanted > 0
    assert 0.5 < found / wanted < 2


# --- models that are refused ----------------------------------------------------------------------


def refused_model(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.onnx"
    if kind == "quantized":
        shop = Shop.open(folder / "shop")
        shop.export()
        return Path(shutil.copy(shop.out, path))
    if kind == "weights gone":
        (folder / "weights.bin").unlink(odd_model("external", folder).exists())
        return folder / "external.onnx"
    if kind == "weights outside":
        (folder / "inner").mkdir()
        made = onnx.load(odd_model("external", folder), load_external_data=False)
        for tensor in made.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../weights.bin"
        path = folder / "inner/external.onnx"
        path.write_bytes(made.SerializeToString())
        return path
    if kind == "no detector":
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")], "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 10])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10])],
        )  # fmt: skip
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        return path
    path.write_bytes(b"no model at all" * 50)
    return path


REFUSED = [
    ("quantized", ModelError, r"quantized already: it holds \d+ DequantizeLinear.*Give the float model"),
    ("weights gone", (BackendError, ModelError), r"weights\.bin"),
    ("weights outside", (BackendError, ModelError), r"\.\./weights\.bin"),
    ("no detector", ModelError, "no head recognises the inputs x float32"),
    ("junk", ModelError, "not a valid ONNX file"),
]


@pytest.mark.parametrize(("kind", "error", "says"), REFUSED)
def test_a_model_that_cannot_be_planned_says_why_in_one_line(
    kind: str, error: type[Exception], says: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says) as caught:
        calibrate(refused_model(kind, tmp_path), photos, tmp_path)
    assert isinstance(caught.value, EdgeSdkError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/plan.json").exists()


# --- photos ---------------------------------------------------------------------------------------


def dull_photos(folder: Path) -> Path:
    """Pictures that differ, without anything that the model knows."""
    folder.mkdir()
    for seed in range(24):
        draw = np.random.default_rng(seed)
        image = np.full((96, 128, 3), draw.integers(60, 200), np.uint8)
        for _ in range(4):
            top, left = int(draw.integers(0, 60)), int(draw.integers(0, 90))
            image[top : top + int(draw.integers(10, 40)), left : left + int(draw.integers(10, 60))] = draw.integers(255)
        assert cv2.imwrite(str(folder / f"dull{seed:02}.png"), image)
    return folder


def test_three_photos_are_taken_with_a_warning(model: Path, tmp_path: Path) -> None:
    notes = first_stages(model, write_photos(tmp_path / "three", range(3)), tmp_path)
    assert any("ranges come from 1 picture: what those do not show is clipped" in note for note in notes)
    assert any("the result is accepted on 1 picture" in note for note in notes)


def test_photos_of_another_domain_are_told_from_good_ones(model: Path, tmp_path: Path) -> None:
    notes = first_stages(model, dull_photos(tmp_path / "dull"), tmp_path)
    assert any("the float model finds nothing in" in note for note in notes), notes


def test_broken_photos_are_counted(model: Path, photos: Path, tmp_path: Path) -> None:
    mixed = Path(shutil.copytree(photos, tmp_path / "mixed"))
    for path in sorted(mixed.iterdir())[:4]:
        path.write_bytes(b"no photo")
    assert any("4 photos could not be read" in note for note in first_stages(model, mixed, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["three", "dull"])
def test_bad_photos_give_a_plan_that_is_not_praised(which: str, model: Path, tmp_path: Path) -> None:
    """The drop's interval, or the warning, says how little it stands on."""
    images = write_photos(tmp_path / "few", range(3)) if which == "three" else dull_photos(tmp_path / "dull")
    calibrate(model, images, tmp_path)
    text = report(tmp_path)
    assert ("accepted on 1 picture" if which == "three" else "the float model finds nothing in") in text
    assert (tmp_path / "out/prepared.onnx").is_file()


@pytest.mark.parametrize(
    ("count", "error", "says"),
    [
        (0, SourceError, "no photo in this folder"),
        (2, DatasetError, "2 of the 3 pictures that calibration, search and acceptance need at the least"),
        (None, SourceError, "no such file"),
    ],
)
def test_too_few_photos_say_how_many_are_needed(
    count: int | None, error: type[Exception], says: str, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "few"
    if count is not None:
        write_photos(folder, range(count))
    with pytest.raises(error, match=says):
        calibrate(model, folder, tmp_path)


# --- what the user brings in Python ---------------------------------------------------------------


def throws(*_: object, **__: object) -> Any:
    raise RuntimeError("no figures today")


def test_a_range_method_that_throws_is_named(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"range method .* failed on tensor '.*': no figures today"):
        calibrate(model, photos, tmp_path, range_method=throws)


@pytest.mark.parametrize("which", ["metric", "sensitivity"])
def test_a_callable_that_throws_is_named(which: str, model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match=f"{which}.*no figures today") as caught:
        calibrate(model, photos, tmp_path, **{which: throws})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"pins": {"steam": "int8"}}, PlanError, "steam"),
        ({"pins": {"stem": "int3"}}, UsageError, "int3"),
        ({"pins": {"all": "int8"}}, PlanError, "it comes after the last weights"),
        ({"max_map_drop": -1}, UsageError, "max_map_drop"),
        ({"count": 0}, UsageError, "count"),
        ({"target": "toaster"}, EdgeSdkError, "toaster"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(
    options: dict[str, Any], error: type[Exception], says: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        calibrate(model, photos, tmp_path, **options)


# --- a full disk ----------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that is full after so many bytes of a file; what is beyond fails to be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_statistics_names_the_file_and_more_room_mends_it(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    with files_of_at_most(20_000), pytest.raises(SinkError, match=r"artefacts.*: cannot be written: File too large"):
        first_stages(model, photos, tmp_path)
    assert first_stages(model, photos, tmp_path)
    assert not list((tmp_path / "cache").rglob(".*"))


def test_no_room_for_a_temporary_model_is_said_to_be_a_full_disk(model: Path) -> None:
    with files_of_at_most(2000), pytest.raises(SinkError, match=r"cannot be written here: is the disk full\?"):
        canonical(model)


def test_no_room_for_the_exported_file_leaves_what_was_there(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path)
    best = tmp_path / "best.onnx"
    save_model(shop.best, best)
    shop.out.write_text("before")
    with files_of_at_most(2000), pytest.raises(SinkError, match=r"out\.onnx: cannot be written: File too large"):
        shop.export(best)
    with files_of_at_most(2000), pytest.raises(SinkError, match="is the disk full"):
        shop.export()
    assert shop.out.read_text() == "before"


@pytest.mark.parametrize("size", [2000, 20_000])
def test_the_command_on_a_full_disk_ends_with_one_line(size: int, model: Path, photos: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))\n"
        "from edge_sdk.cli import main\nmain(sys.argv[1:])"
    )
    words = ["calibrate", model, "--images", photos, "--out", tmp_path / "out", "--cache", tmp_path / "cache",
             "--count", "8", "--estimate", "--workers", "1"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edge-sdk: ")
    assert "internal error" not in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/plan.json").exists()
