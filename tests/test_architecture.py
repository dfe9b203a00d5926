"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_sdk

ROOT = Path(edge_sdk.__file__).resolve().parents[1]
MAX_LINES = 600

# Where a file lies, and the name that it is imported by. The two links in edge_sdk are the folders on top.
HOMES = {"edge_sdk": "edge_sdk", "targets": "edge_sdk.targets", "calibration": "edge_sdk.calibration"}


def sources() -> list[tuple[Path, str]]:
    """Every file of the packages, with its full name."""
    found = []
    for folder, package in HOMES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "edge_sdk" and parts[0] in HOMES:
                continue  # a link, on Python 3.13 that follows them
            found.append((path, ".".join([package, *(part for part in parts if part != "__init__")])))
    return found


SOURCES = sources()


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path, module: str) -> Iterator[tuple[str, bool]]:
    """Full names that a file imports anywhere, and whether that is inside a function or for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, later: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((name.name, later) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = package.split(".")[: len(package.split(".")) - child.level + 1]
                    base = ".".join([*above, *([child.module] if child.module else [])])
                yield from ((f"{base}.{name.name}", later) for name in child.names)
            else:
                function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from walk(child, later or function or typing)

    return walk(tree, False)


def layer(module: str) -> str:
    """Which of the houses a module belongs to."""
    for name in ("edge_sdk.targets", "edge_sdk.calibration", "edge_sdk.errors"):
        if module == name or module.startswith(f"{name}."):
            return name.removeprefix("edge_sdk.")
    return "edge_sdk" if module == "edge_sdk" or module.startswith("edge_sdk.") else "outside"


MAY_IMPORT = {
    "errors": {"outside", "errors"},
    "targets": {"outside", "errors", "targets"},
    "edge_sdk": {"outside", "errors", "targets", "edge_sdk"},
    "calibration": {"outside", "errors", "targets", "edge_sdk", "calibration"},
}


def looks_up(module: str, later: bool) -> bool:
    """The lazy face and the commands may import calibration, once they are called."""
    return later and (module == "edge_sdk" or module.startswith("edge_sdk.cli"))


@pytest.mark.parametrize(("path", "module"), SOURCES, ids=[module for _, module in SOURCES])
def test_imports_run_one_way(path: Path, module: str) -> None:
    wrong = [
        name
        for name, later in imports(path, module)
        if layer(name) not in MAY_IMPORT[layer(module)] and not looks_up(module, later)
    ]
    assert wrong == [], f"{shown(path)} imports {wrong}"


def test_the_arrow_would_be_seen_if_it_turned_round(tmp_path: Path) -> None:
    path = tmp_path / "nms.py"
    path.write_text("from edge_sdk import calibration\ndef f():\n    from ..calibration.planner import plan\n")
    found = list(imports(path, "edge_sdk.models.nms"))
    assert found == [("edge_sdk.calibration", False), ("edge_sdk.calibration.planner.plan", True)]
    assert [layer(name) for name, _ in found] == ["calibration", "calibration"]
    path.write_text(
        "import edge_sdk.models\nfrom edge_sdk.errors import TargetError\nfrom . import identify\nimport os\n"
    )
    names = [name for name, _ in imports(path, "edge_sdk.targets.nms")]
    assert [layer(name) for name in names] == ["edge_sdk", "errors", "targets", "outside"]
    assert len(SOURCES) > 60
    assert {layer(module) for _, module in SOURCES} == {"errors", "targets", "edge_sdk", "calibration"}


def all_python() -> list[Path]:
    folders = [*HOMES, "tests", "tools", "docs"]
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_nothing_imports_targets_or_calibration_by_their_bare_names() -> None:
    bare = [
        f"{shown(path)}: {name}"
        for path in all_python()
        for name, _ in imports(path, "some.module")
        if name.split(".")[0] in ("targets", "calibration")
    ]
    assert bare == []


def test_importing_the_sdk_loads_nothing_heavy() -> None:
    code = "import sys, json, edge_sdk; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in json.loads(ran.stdout)}
    heavy = {"numpy", "cv2", "onnxruntime", "ai_edge_litert", "tflite_runtime", "onnx", "scipy", "supervision",
             "pycocotools", "typer", "rich", "matplotlib", "asyncio", "urllib"}  # fmt: skip
    assert loaded & heavy == set()
    assert {name for name in json.loads(ran.stdout) if name.startswith("edge_sdk.")} == set()


def test_calibrate_is_there_by_name_and_says_which_extra_it_needs() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import edge_sdk\nassert 'calibrate' in dir(edge_sdk)\n"
        "try:\n    edge_sdk.calibrate\n"
        "except edge_sdk.EdgeSdkError as error:\n    print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "onnx is not installed: pip install 'edge-sdk[calibrate]'"


def test_the_lists_of_engines_and_heads_load_no_engine() -> None:
    code = (
        "import sys, json\n"
        "from edge_sdk.backends.base import backends\nfrom edge_sdk.models.heads.base import heads\n"
        "from edge_sdk.sources.base import kinds\n"
        "assert backends() and heads() and kinds()\nprint(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in json.loads(ran.stdout)}
    assert loaded & {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorrt", "picamera2", "onnx", "gi"} == set()


@pytest.mark.parametrize(("base", "lister", "constant"), [
    ("edge_sdk.models.heads", "heads", "HEAD"),
    ("edge_sdk.backends", "backends", "BACKEND"),
    ("edge_sdk.sources", "kinds", "KIND"),
])  # fmt: skip
def test_whatever_lies_in_a_folder_of_plug_ins_is_found_by_being_there(base: str, lister: str, constant: str) -> None:
    listed = getattr(importlib.import_module(f"{base}.base"), lister)()
    folder = ROOT / base.replace(".", "/")
    # Read as text, so that this list is not made the way the registry makes its own.
    stated = [path.stem for path in folder.glob("*.py") if f"\n{constant} = " in path.read_text(encoding="utf-8")]
    assert len(stated) >= 2
    homes = {type(one).__module__.rpartition(".")[2] for one in listed.values()}
    assert len(listed) == len(stated), "two plug-ins have one name"
    assert homes <= {path.stem for path in folder.glob("*.py")}
    for stem in stated:
        one = getattr(importlib.import_module(f"{base}.{stem}"), constant)
        assert listed[one.name] is one


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    assert sorted(edge_sdk.__all__) == list(edge_sdk.__all__)
    for name in edge_sdk.__all__:
        thing = getattr(edge_sdk, name)
        assert (inspect.getdoc(thing) or "").strip(), name
        assert not (inspect.getdoc(thing) or "").startswith(f"{name}("), f"{name}: dataclass's own text is no docstring"
        assert name in dir(edge_sdk)


def test_every_public_method_of_the_face_has_a_docstring() -> None:
    bare = []
    for name in edge_sdk.__all__:
        thing = getattr(edge_sdk, name)
        if inspect.isclass(thing):
            bare += [
                f"{name}.{method}"
                for method, value in vars(thing).items()
                if not method.startswith("_") and callable(getattr(value, "__func__", value)) and not value.__doc__
            ]
    assert bare == []


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Telescope'"):
        edge_sdk.Telescope  # noqa: B018


@pytest.mark.parametrize(("path", "module"), SOURCES, ids=[module for _, module in SOURCES])
def test_every_module_says_what_it_is_and_stays_readable(path: Path, module: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES, shown(path)
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{shown(path)} has no docstring"
