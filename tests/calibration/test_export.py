"""A plan becomes the file that it asks for, from whichever form of the model there is, or says why not."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_sdk
from edge_sdk.backends.base import Layer
from edge_sdk.errors import ModelError, PlanError, SinkError, TargetError, UsageError
from edge_sdk.plan import SCHEMA, Plan

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration import export as exporting  # noqa: E402
from edge_sdk.calibration.cache import Cache  # noqa: E402
from edge_sdk.calibration.canonical import canonical  # noqa: E402
from edge_sdk.calibration.engines.onnxruntime import ENGINE, this_cpu  # noqa: E402
from edge_sdk.calibration.engines.onnxruntime_lower import PLAN_KEY  # noqa: E402
from edge_sdk.calibration.export import cpu_of, export_file, find_prepared, keep_prepared  # noqa: E402
from edge_sdk.calibration.graph import Graph, model_bytes, save_model, sha256_of  # noqa: E402
from edge_sdk.calibration.groups import choices, make_groups  # noqa: E402
from edge_sdk.calibration.observe import collect  # noqa: E402
from edge_sdk.calibration.ranges import choose  # noqa: E402
from edge_sdk.calibration.rewrites import rewrite  # noqa: E402

from ..flows.shop import Shop, make_plan, pictures, prepared  # noqa: E402, TID252  there is no package of tests to name
from ..models.tiny_yolox import CARD, build, write  # noqa: E402, TID252  there is no package of tests to name


def repaired(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with weights that nobody can guess."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensor = next(one for one in made.graph.initializer if one.name == "stage2.weight")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))
    return made


@pytest.fixture(scope="module")
def first_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.open(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(first_shop: Shop, tmp_path: Path) -> Shop:
    shutil.copytree(first_shop.folder, tmp_path, dirs_exist_ok=True)
    return replace(first_shop, folder=tmp_path)


def finds(model: Path, photos: Path) -> list[set[int]]:
    """The classes that it finds in each photo, for sure."""
    with edge_sdk.Detector(model, backend="onnxruntime", threads=1, confidence=0.5) as detector:
        return [set(detector(image).class_id.tolist()) for image in pictures(photos)]


# --- which model is lowered ----------------------------------------------------------------------


def test_the_file_detects_at_once_what_the_float_model_detects(shop: Shop) -> None:
    assert edge_sdk.export(shop.model, shop.plan, shop.out) == shop.out
    found = finds(shop.out, shop.photos)
    assert found == finds(shop.model, shop.photos)
    assert {one for row in found for one in row} == {0, 1}
    with edge_sdk.Detector(shop.out) as detector:
        assert detector.class_names == ("red", "green")
        assert detector.session.metadata[PLAN_KEY] == shop.plan.sha256


def test_each_form_of_the_model_gives_the_same_file(shop: Shop) -> None:
    save_model(shop.best, shop.folder / "best.onnx")
    shop.plan.save(shop.folder / "plan.json")
    ways = {"made again": shop.export(), "as given": shop.export(shop.folder / "best.onnx")}
    keep_prepared(Cache(shop.cache), model_bytes(shop.best))
    ways["kept in the cache"] = shop.export()
    save_model(shop.best, shop.folder / "prepared.onnx")
    ways["beside the plan"] = shop.export(plan=shop.folder / "plan.json")
    assert {how: done.prepared for how, done in ways.items()} == {how: how for how in ways}
    assert len({done.sha256 for done in ways.values()}) == 1
    assert ways["as given"].sha256 == hashlib.sha256(shop.out.read_bytes()).hexdigest()
    assert ways["as given"].layers == {"fp32": 19, "int8": 11}


def test_a_model_with_repaired_weights_is_found_beside_the_plan_or_in_the_cache(shop: Shop) -> None:
    mended = repaired(shop.best)
    make_plan(mended, shop.model, shop.photos).save(shop.folder / "plan.json")
    with pytest.raises(PlanError, match=r"cannot be made from tiny.onnx .*: give the prepared.onnx that came with"):
        shop.export(plan=shop.folder / "plan.json")
    assert not shop.out.exists()
    assert keep_prepared(Cache(shop.cache), model_bytes(mended)) == sha256_of(mended)
    assert shop.export(plan=shop.folder / "plan.json").prepared == "kept in the cache"
    save_model(mended, shop.folder / "prepared.onnx")
    assert shop.export(plan=shop.folder / "plan.json").prepared == "beside the plan"


def test_what_lies_beside_the_plan_is_not_taken_for_another_model(shop: Shop) -> None:
    save_model(shop.best, shop.folder / "prepared.onnx")
    shop.plan.save(shop.folder / "plan.json")
    other = write(shop.folder / "other.onnx", seed=1)
    with pytest.raises(PlanError, match=r"other.onnx is not the model that the plan is of: give tiny.onnx, or the"):
        shop.export(other, shop.folder / "plan.json")


def test_a_damaged_file_beside_the_plan_is_passed_by(shop: Shop) -> None:
    (shop.folder / "prepared.onnx").write_bytes(model_bytes(shop.best)[:-10])
    shop.plan.save(shop.folder / "plan.json")
    assert shop.export(plan=shop.folder / "plan.json").prepared == "made again"


def test_a_prepared_model_is_kept_once_and_found_by_its_hash(shop: Shop) -> None:
    cache = Cache(shop.cache)
    content = model_bytes(shop.best)
    sha256 = keep_prepared(cache, content)
    keep_prepared(cache, content)
    assert cache.size().artefacts == 1
    found = find_prepared(cache, sha256)
    assert found is not None
    assert model_bytes(found) == content
    assert find_prepared(cache, "0" * 64) is None


def test_no_place_for_a_cache_is_no_reason_to_fail(shop: Shop) -> None:
    shop.cache.write_text("a file, where a folder would be made")
    assert shop.export().prepared == "made again"


def test_a_dynamic_model_is_made_again_at_the_size_that_its_card_states(shop: Shop) -> None:
    model = write(shop.folder / "open.onnx", "dynamic", card=False)
    (shop.folder / "open.toml").write_text('head = "yolox"\ninput_hw = [64, 64]\nclasses = ["red", "green"]\n')
    fixed = rewrite(canonical(model, shapes={"images": (1, 3, 64, 64)})).model
    done = shop.export(model, make_plan(fixed, model, shop.photos))
    assert done.prepared == "made again"
    assert finds(shop.out, shop.photos) == finds(shop.model, shop.photos)


# --- the card ------------------------------------------------------------------------------------


def test_a_sidecar_goes_into_the_file(shop: Shop) -> None:
    bare = write(shop.folder / "bare.onnx", card=False)
    plan = make_plan(prepared(onnx.load(bare)), bare, shop.photos)
    bare.with_suffix(".toml").write_text('head = "yolox"\nclasses = ["rouge", "vert"]\nmean = [0.0, 0.0, 0.0]\n')
    shop.export(bare, plan)
    with edge_sdk.Detector(shop.out) as detector:
        assert detector.class_names == ("rouge", "vert")
    assert finds(shop.out, shop.photos) == finds(shop.model, shop.photos)


def test_what_is_stated_by_hand_wins_over_the_models_own_card(shop: Shop) -> None:
    card = edge_sdk.ModelCard(**{**CARD, "classes": ("a", "b")}, input_hw=(64, 64), colour="bgr")
    for stated in (card, shop.folder / "by_hand.toml"):
        (shop.folder / "by_hand.toml").write_text('classes = ["a", "b"]\n')
        shop.export(card=stated)
        with edge_sdk.Detector(shop.out) as detector:
            assert detector.class_names == ("a", "b")
            assert detector.head.name == "yolox"


def test_a_prepared_model_may_hold_the_whole_card_and_is_made_again_with_it(shop: Shop) -> None:
    with edge_sdk.Detector(shop.model, backend="onnxruntime") as detector:
        card = detector.card
    whole = exporting.with_card(onnx.ModelProto.FromString(model_bytes(shop.best)), vars(card))
    plan = make_plan(whole, shop.model, shop.photos)
    assert plan.prepared_sha256 != shop.plan.prepared_sha256
    assert shop.export(plan=plan).prepared == "made again"
    save_model(whole, shop.folder / "moved.onnx")  # no sidecar anywhere near
    assert shop.export(shop.folder / "moved.onnx", plan).prepared == "as given"
    with edge_sdk.Detector(shop.out, backend="onnxruntime") as detector:
        assert detector.card == card


# --- board, processor, engine --------------------------------------------------------------------


def test_another_board_is_only_planned_for_by_name_and_with_a_warning(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        done = shop.export(target="raspberry-pi-5", cpu=this_cpu())
    assert done.target == "raspberry-pi-5"
    assert "the plan was made for generic-x86_64" in caplog.text


def test_a_board_that_cannot_run_the_plan_refuses_it(shop: Shop) -> None:
    with pytest.raises(PlanError, match=r"'stage1' cannot run in int8 on generic-unknown: onnxruntime computes fp32"):
        shop.export(target="generic-unknown")
    with pytest.raises(TargetError, match="toaster"):
        shop.export(target="toaster")
    with pytest.raises(UsageError, match="there is no cpu 'z80'"):
        shop.export(cpu="z80")


def test_a_board_whose_engines_take_no_plan_says_which_it_has(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    board = replace(edge_sdk.targets.load("generic-x86_64"), backends=("tensorrt",))
    monkeypatch.setattr(exporting.targets, "load", lambda name: board)
    with pytest.raises(UsageError, match="for generic-x86_64: it runs tensorrt, and there are onnxruntime"):
        shop.export()


def test_the_processor_goes_by_the_board() -> None:
    assert cpu_of(edge_sdk.targets.load("raspberry-pi-5"), "onnxruntime") == "arm"
    assert cpu_of(edge_sdk.targets.load("generic-aarch64"), "onnxruntime") == "arm"
    assert cpu_of(edge_sdk.targets.load("generic-unknown"), "onnxruntime") == this_cpu()
    assert cpu_of(edge_sdk.targets.load("generic-x86_64"), "onnxruntime") in (this_cpu(), "x86")
    assert cpu_of(edge_sdk.targets.load("generic-x86_64"), "another engine") is None


@pytest.mark.skipif(this_cpu() == "arm", reason="an Arm machine can read it back")
def test_a_file_for_another_processor_is_written_and_not_claimed_to_be_read_back(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        done = shop.export(cpu="arm")
    assert done.differences is None
    assert "it was not read back" in caplog.text
    kinds = {tensor.data_type for tensor in onnx.load(shop.out).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert onnx.TensorProto.UINT8 not in kinds


# --- held against the engine ---------------------------------------------------------------------


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine says that it runs two layers in float."""
    layers = [Layer((name,), "cpu", "fp32", 0.1) for name in ("stem/Conv", "stage1/Conv", "stage2/Conv")]
    monkeypatch.setattr(type(ENGINE), "read_back", lambda *_, **__: layers)


@pytest.mark.usefixtures("stubborn")
def test_a_layer_that_runs_otherwise_is_named_and_nothing_is_written(shop: Shop) -> None:
    shop.out.write_text("before")
    with pytest.raises(PlanError, match=r"stage1/Conv: planned int8, runs in fp32; stage2/Conv: planned int8"):
        shop.export()
    assert shop.out.read_text() == "before"
    assert [path.name for path in shop.folder.glob(".*")] == []


@pytest.mark.usefixtures("stubborn")
def test_differences_that_are_allowed_are_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    done = shop.export(allow_differences=True)
    assert done.differences == tuple(f"stage{n}/Conv: planned int8, runs in fp32" for n in (1, 2))
    assert "stage2/Conv: planned int8" in caplog.text
    json.dumps(done.record())


def test_the_record_is_plain_values(shop: Shop) -> None:
    record = json.loads(json.dumps(shop.export().record()))
    assert record["differences"] == []
    assert record["path"] == str(shop.out)
    assert (record["engine"], record["plan_sha256"]) == ("onnxruntime", shop.plan.sha256)


# --- edits ---------------------------------------------------------------------------------------


def test_a_group_can_be_turned_to_either_precision_by_hand(shop: Shop) -> None:
    for group, precision in (("stem", "int8"), ("stage1", "fp32"), ("head3.pred", "fp32")):
        edited = shop.plan.with_choice(group, precision)
        shop.export(plan=edited)
        kinds = {node.name: node.op_type for node in onnx.load(shop.out).graph.node}
        stored = any(f"{group}.weight/int8" in name for name in kinds)
        assert stored == (precision == "int8")


def test_an_edit_that_the_engine_cannot_run_says_so(shop: Shop) -> None:
    with pytest.raises(PlanError, match="'all' cannot run in int8: it comes after the last weights"):
        shop.export(plan=shop.plan.with_choice("all", "int8"))
    with pytest.raises(PlanError, match="'stage1' cannot run in fp16 on generic-x86_64"):
        shop.export(plan=shop.plan.with_choice("stage1", "fp16"))
    lacking = Plan(**{**vars(shop.plan), "ranges": {}})
    with pytest.raises(PlanError, match="no range for the tensor"):
        shop.export(plan=lacking)


# --- files ---------------------------------------------------------------------------------------


def test_it_is_never_written_over_what_it_is_made_from(shop: Shop) -> None:
    before = shop.model.read_bytes()
    with pytest.raises(UsageError, match="would be written over"):
        export_file(shop.model, shop.plan, shop.folder / "photos/../tiny.onnx")
    assert shop.model.read_bytes() == before
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export_file(shop.model, shop.plan, shop.folder / "out.tflite")
    with pytest.raises(SinkError):
        export_file(shop.model, shop.plan, shop.folder / "nowhere/out.onnx", cache=shop.cache)


@pytest.mark.parametrize("name", ["tiny.tflite", "tiny.pt", "tiny.engine", "tiny"])
def test_a_model_of_another_kind_is_refused_in_one_line(name: str, shop: Shop) -> None:
    (shop.folder / name).write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    with pytest.raises(ModelError, match=rf"^{name}: plans are made from ONNX models; give the one"):
        export_file(shop.folder / name, shop.plan, shop.out, cache=shop.cache)


def test_what_is_no_float_model_is_refused(shop: Shop) -> None:
    shop.export()
    with pytest.raises(ModelError, match=r"out.onnx: the model is quantized already: it holds \d+ DequantizeLinear"):
        export_file(shop.out, shop.plan, shop.folder / "again.onnx", cache=shop.cache)
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        export_file(shop.folder / "gone.onnx", shop.plan, shop.out)


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(edge_sdk.EdgeSdkError, match=r"onnx is not installed: pip install 'edge-sdk\[calibrate\]'"):
        exporting.export("a.onnx", "plan.json", "b.onnx")


# --- real models ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["yolox_nano/yolox_nano.onnx", "ultraface/version-RFB-320.onnx", "yunet/yunet_n_dynamic.onnx"]
)
def test_real_detectors_are_exported_and_see_about_the_same(name: str, shared: Path, tmp_path: Path) -> None:
    """With the first layers in float; COCO's people for the one, faces for the others."""
    source = shared / "models" / name
    with edge_sdk.Detector(source, backend="onnxruntime", threads=1) as detector:
        shapes = {name: array.shape for name, array in detector.own.feeds.items()}
        photos = sorted((shared / "data/coco_calib/images").glob("*.jpg"))[:8]
        images = [cv2.imread(str(path)) for path in photos]
        feeds = [dict(detector.prepare(image, detector.new_prepared()).feeds) for image in images]
        made = rewrite(canonical(source, shapes=shapes)).model
        wanted = [detector(image) for image in images]
    graph = Graph(made)
    groups = make_groups(graph, ENGINE.rules)
    free = [group for group in groups if len(group.precisions) > 1]
    low = ENGINE.settled(graph, groups, {group.name for group in free[12:]})
    tensors, _ = ENGINE.quantized(graph, frozenset(node for group in free for node in group.nodes))
    limits = choose(collect(made, iter(feeds)), "uint8").limits()
    plan = Plan(
        SCHEMA, sha256_of(made), "generic-x86_64",
        choices(groups, "fp32", but=dict.fromkeys(sorted(low), "int8")),
        {name: limits[name] for name in tensors if name in limits}, {},
    )  # fmt: skip
    done = export_file(source, plan, tmp_path / "out.onnx", cache=tmp_path / "cache")
    assert done.differences == ()
    with edge_sdk.Detector(tmp_path / "out.onnx", threads=1) as detector:
        found = [detector(image) for image in images]
    assert sum(map(len, wanted)) > 0
    assert 0.5 < sum(map(len, found)) / sum(map(len, wanted)) < 2


def test_a_model_in_canonical_form_is_the_same_whatever_it_was_checked_on() -> None:
    model = build()
    rng = np.random.default_rng(3)
    feeds = {"images": rng.uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)}
    first, second = canonical(model), canonical(model, feeds=feeds)
    assert first.sha256 == second.sha256
    assert rewrite(first).sha256 == rewrite(second, feeds=feeds).sha256
