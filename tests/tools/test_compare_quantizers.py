"""The table of quantizers: what is ours of it. No peer is installed or run here."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tools.folder_of_modules import modules_of

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "compare_quantizers"
MODULES = ("environments", "quantizers", "material", "measuring", "ours", "table")


@pytest.fixture(scope="module")
def tool() -> Iterator[SimpleNamespace]:
    with modules_of(FOLDER, MODULES) as modules:
        spec = importlib.util.spec_from_file_location("compare_quantizers_main", FOLDER / "__main__.py")
        assert spec is not None
        assert spec.loader is not None
        modules.main = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules.main)
        yield modules


@pytest.fixture
def material(tool: SimpleNamespace, tmp_path: Path) -> object:
    model, photos = tmp_path / "a.onnx", tmp_path / "a.npy"
    model.write_bytes(b"a model")
    photos.write_bytes(b"photos")
    return tool.quantizers.Material(model, "aa", photos, "bb", tmp_path, ("1.jpg",), False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def installed(tool: SimpleNamespace, cache: Path) -> object:
    """An environment that is there already: this interpreter."""
    environment = tool.environments.Environment("here", ("nothing==1",))
    folder = environment.folder(cache)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "installed.json").write_text('["nothing==1"]')
    return environment


def peer(tool: SimpleNamespace, cache: Path, code: str, tmp_path: Path, **options: object) -> object:
    script = tmp_path / "script.py"
    script.write_text(f"import json, sys, pathlib, time\njob = json.load(open(sys.argv[1]))\n{code}\n")
    return tool.quantizers.Peer("one", "One", installed(tool, cache), str(script), options)


COPY = """
made = pathlib.Path(job["model"]).read_bytes() + json.dumps(job["options"]).encode()
pathlib.Path(job["out"]).write_bytes(made)
"""


def test_a_peer_gets_its_job_and_leaves_a_file(tool, material, cache, tmp_path) -> None:
    made = tool.quantizers.quantize(peer(tool, cache, COPY, tmp_path, level=3), material, cache, limit_s=60)
    assert made.failed is None
    assert made.path.read_bytes() == b'a model{"level": 3}'
    assert made.seconds > 0
    assert not made.reused


def test_the_same_again_is_not_run_again(tool, material, cache, tmp_path) -> None:
    one = peer(tool, cache, COPY, tmp_path)
    first = tool.quantizers.quantize(one, material, cache, limit_s=60)
    second = tool.quantizers.quantize(one, material, cache, limit_s=60)
    assert second.reused
    assert (second.path, second.seconds) == (first.path, pytest.approx(first.seconds))


@pytest.mark.parametrize(
    "change",
    [{"model_sha256": "other"}, {"calibration_sha256": "other"}, {"vnni": True}],
    ids=lambda one: next(iter(one)),
)
def test_other_material_makes_another_key(tool, material, cache, tmp_path, change) -> None:
    one = peer(tool, cache, COPY, tmp_path)
    assert tool.quantizers.key(one, material) != tool.quantizers.key(one, replace(material, **change))


def test_labels_count_only_for_who_searches_with_them(tool, material, cache, tmp_path) -> None:
    one = peer(tool, cache, COPY, tmp_path)
    other = replace(material, validation=("2.jpg",))
    assert tool.quantizers.key(one, material) == tool.quantizers.key(one, other)
    labelled = replace(one, labelled=True)
    assert tool.quantizers.key(labelled, material) != tool.quantizers.key(labelled, other)


def test_a_changed_script_is_run_anew(tool, material, cache, tmp_path) -> None:
    one = peer(tool, cache, COPY, tmp_path)
    before = tool.quantizers.key(one, material)
    Path(one.script).write_text("pass")
    assert tool.quantizers.key(one, material) != before


def test_a_peer_that_fails_says_why_and_is_tried_again(tool, material, cache, tmp_path) -> None:
    one = peer(tool, cache, "print('working'); raise ValueError('no such operator: Foo')", tmp_path)
    made = tool.quantizers.quantize(one, material, cache, limit_s=60)
    assert made.path is None
    assert made.failed == "failed (status 1): ValueError: no such operator: Foo"
    Path(one.script).write_text(f"import json, sys, pathlib\njob = json.load(open(sys.argv[1]))\n{COPY}")
    assert tool.quantizers.quantize(one, material, cache, limit_s=60).failed is None


def test_a_peer_that_leaves_no_file_has_failed(tool, material, cache, tmp_path) -> None:
    made = tool.quantizers.quantize(peer(tool, cache, "print('done')", tmp_path), material, cache, limit_s=60)
    assert made.failed == "failed (status 0): done"


def test_a_peer_is_stopped_at_the_limit(tool, material, cache, tmp_path) -> None:
    made = tool.quantizers.quantize(peer(tool, cache, "time.sleep(60)", tmp_path), material, cache, limit_s=0.5)
    assert made.path is None
    assert made.failed == "not done after 0 s"


def test_a_peer_that_cannot_be_installed_has_a_row_that_says_so(tool, material, cache, tmp_path) -> None:
    nowhere = tool.environments.Environment("nowhere", ("nothing==1",), pythons=("2.3",))
    one = replace(peer(tool, cache, COPY, tmp_path), environment=nowhere)
    assert (
        tool.quantizers.quantize(one, material, cache, limit_s=60).failed == "not installed: no Python of 2.3 is here"
    )


def test_other_pins_are_another_environment(tool, cache) -> None:
    make = tool.environments.Environment
    assert make("a", ("x==1",)).folder(cache) != make("a", ("x==2",)).folder(cache)
    assert make("a", ("x==1",)).folder(cache) == make("a", ("x==1",)).folder(cache)


def test_every_peer_is_pinned_and_has_its_script(tool) -> None:
    names = [one.name for one in tool.quantizers.PEERS]
    assert len(set(names)) == len(names)
    for one in tool.quantizers.PEERS:
        assert (FOLDER / one.script).is_file()
        assert all("==" in requirement for requirement in one.environment.requirements)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("one\nERROR: no matching distribution\ndone", "ERROR: no matching distribution"),
        ("Traceback\n  File x\nRuntimeError: broken\n\n", "RuntimeError: broken"),
        ("half way\nkilled\n", "killed"),
        ("", "it said nothing"),
    ],
)
def test_the_reason_is_the_line_that_says_what_went_wrong(tool, said, line) -> None:
    assert tool.environments.reason(said) == line


# --- our own rows ---


def write_report(folder: Path, candidates: list[tuple[str, str, bytes]], pick: str) -> None:
    folder.mkdir(exist_ok=True)
    table = []
    for name, kind, data in candidates:
        table.append({"name": name, "kind": kind, "sha256": hashlib.sha256(data).hexdigest()})
    report = {
        "model": "net.onnx",
        "pick": {"name": pick},
        "candidates": table,
        "seconds": {"photos": 5.5, "search": 60},
    }
    (folder / "report.json").write_text(json.dumps(report))


def test_our_rows_are_the_pick_and_the_other_hybrids_that_were_kept(tool, tmp_path) -> None:
    out = tmp_path / "out"
    write_report(
        out, [("float", "float", b"f"), ("hybrid 1", "hybrid", b"1"), ("hybrid 2", "hybrid", b"2")], "hybrid 2"
    )
    (out / "front").mkdir()
    (out / "front" / "1.onnx").write_bytes(b"1")
    (out / "net.int8.onnx").write_bytes(b"2")
    (out / "stale.onnx").write_bytes(b"from another run")
    model, found = tool.ours.finished(out)
    assert model == "net.onnx"
    assert [one.title for one in found] == ["ours, the pick: hybrid 2", "ours, hybrid 1"]
    assert [one.path.name for one in found] == ["net.int8.onnx", "1.onnx"]
    assert found[0].seconds == 65.5


def test_a_simple_pick_has_a_row_too(tool, tmp_path) -> None:
    write_report(tmp_path / "out", [("optimized float", "high", b"f")], "optimized float")
    (tmp_path / "out" / "net.onnx").write_bytes(b"f")
    (row,) = tool.ours.finished(tmp_path / "out")[1]
    assert row.title == "ours, the pick: optimized float"


def test_a_pick_without_its_file_is_an_error(tool, tmp_path) -> None:
    write_report(tmp_path / "out", [("hybrid 1", "hybrid", b"1")], "hybrid 1")
    with pytest.raises(FileNotFoundError, match="hybrid 1"):
        tool.ours.finished(tmp_path / "out")


# --- the table ---


def test_the_table_shows_what_is_known_and_why_the_rest_is_not(tool) -> None:
    rows = [
        tool.table.Row("float", "float", map=0.2989, ratio=(1.02, 1.01, 1.03), ms=20.5, size_bytes=3_660_092),
        tool.table.Row("x", "X", map=0.2959, drop=(0.003, -0.001, 0.007), seconds=12.4),
        tool.table.Row("y", "Y | Z", note="not installed: pip: no matching distribution"),
    ]
    lines = tool.table.text(rows).splitlines()
    assert "0.2989" in lines[1]
    assert "1.020 (1.010 to 1.030)" in lines[1]
    assert "3.66" in lines[1]
    assert "+0.0030 (-0.0010 to +0.0070)" in lines[2]
    assert lines[3].endswith("not installed: pip: no matching distribution")
    marked = tool.table.markdown(rows).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in marked}) == 1
    assert json.loads(json.dumps(tool.table.plain(rows)))[1]["drop"] == [0.003, -0.001, 0.007]


# --- measuring ---


def scaling(path: Path, factor: float, name: str = "x") -> Path:
    """A model that scales [1, 3, 4, 4]."""
    node = helper.make_node("Mul", [name, "factor"], ["y"])
    shape = (1, 3, 4, 4)
    graph = helper.make_graph(
        [node],
        "scaling",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32([factor]), "factor")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_files_are_timed_in_turns_also_where_a_peer_renamed_the_input(tool, tmp_path) -> None:
    files = {"float": scaling(tmp_path / "a.onnx", 1), "peer": scaling(tmp_path / "b.onnx", 2, name="renamed")}
    turns = tool.measuring.latencies(files, "float", {"x": np.ones((1, 3, 4, 4), np.float32)}, rounds=5)
    assert list(turns.models) == ["float", "peer"]
    assert turns.models["float"].ratio == 1
    assert turns.models["peer"].low <= turns.models["peer"].ratio <= turns.models["peer"].high


def test_matches_are_kept_as_they_were_found(tool, tmp_path) -> None:
    empty = np.empty((10, 0), bool)
    one = tool.measuring.Matches(np.ones((10, 2), bool), np.zeros((10, 2), bool), np.array([0, 1]), np.array([1, 1]))
    none = tool.measuring.Matches(empty, empty, np.empty(0, np.intp), np.array([0, 2]))
    found = tool.measuring.Matched(("cat", "dog"), (0, 2), ("b.jpg",), ("bird",), (one, none))
    tool.measuring._pack(found, tmp_path / "kept.npz")
    again = tool.measuring._unpacked(tmp_path / "kept.npz")
    assert (again.classes, again.photos, again.skipped, again.classes_not_in_model) == (
        ("cat", "dog"), (0, 2), ("b.jpg",), ("bird",)
    )  # fmt: skip
    assert again.map() == found.map() == pytest.approx(0.5)


def test_the_head_is_the_last_convolutions_and_what_follows(tmp_path) -> None:
    pytest.importorskip("onnxruntime.quantization")
    spec = importlib.util.spec_from_file_location("run_ort", FOLDER / "run_ort.py")
    assert spec is not None
    assert spec.loader is not None
    script: ModuleType = importlib.util.module_from_spec(spec)
    pytest.importorskip("sympy", reason="ONNX Runtime's preparation needs sympy")
    spec.loader.exec_module(script)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="body"),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Conv", ["b", "w"], ["c"], name="boxes"),
        helper.make_node("Conv", ["b", "w"], ["d"], name="scores"),
        helper.make_node("Sigmoid", ["d"], ["e"], name="gate"),
        helper.make_node("Concat", ["c", "e"], ["y"], name="join", axis=1),
    ]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    assert set(script.head(helper.make_model(graph))) == {"boxes", "scores", "gate", "join"}


# --- the command ---


def test_an_unknown_peer_is_named_with_those_there_are(tool, capsys) -> None:
    with pytest.raises(SystemExit):
        tool.main.parse(["m.onnx", "--calib", "c", "--eval", "e", "--only", "ort-minmax,nobody"])
    said = capsys.readouterr().err
    assert "no such peer: nobody" in said
    assert "nncf-ac" in said


def test_all_peers_are_compared_where_none_is_named(tool) -> None:
    arguments = tool.main.parse(["m.onnx", "--calib", "c", "--eval", "e"])
    assert arguments.wanted == [one.name for one in tool.quantizers.PEERS]
    assert tool.main.parse(["m.onnx", "--calib", "c", "--eval", "e", "--only", ""]).wanted == []


@pytest.mark.slow
def test_the_material_is_the_planners_own_choice_of_photos(tool, shared, yolox, cache) -> None:
    prepared = tool.material.prepare(yolox, shared / "data/coco_calib", cache, count=8)
    array = np.load(prepared.material.calibration)
    assert array.shape == (8, 1, 3, 416, 416)
    assert array.dtype == np.float32
    assert len(prepared.material.validation) > 8
    again = tool.material.prepare(yolox, shared / "data/coco_calib", cache, count=8)
    assert again.material == prepared.material
