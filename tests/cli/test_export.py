"""edge-sdk export: what it prints, writes and refuses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ..flows.shop import Shop  # noqa: TID252  there is no package of tests to name


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop.open(tmp_path_factory.mktemp("shop"))
    made.plan.save(made.folder / "plan.json")
    return made


def test_the_file_is_written_and_detects(edge_sdk_command, shop: Shop) -> None:
    ran = edge_sdk_command("export", shop.model, "--plan", shop.folder / "plan.json", "-o", shop.out)
    assert (ran.code, ran.err) == (0, "")
    assert "for onnxruntime on generic-x86_64" in ran.out
    assert "every layer that states its precision runs as planned" in ran.out
    photo = sorted(shop.photos.glob("*.png"))[0]
    found = edge_sdk_command("detect", photo, "--model", shop.out, "--json")
    assert found.code == 0
    assert found.lines[0]["detections"][0]["class_name"] in ("red", "green")


def test_a_name_is_made_where_none_is_given(
    edge_sdk_command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = edge_sdk_command("export", shop.model, "--plan", shop.folder / "plan.json")
    assert ran.out.startswith("tiny.generic-x86_64.onnx: ")
    assert (tmp_path / "tiny.generic-x86_64.onnx").is_file()


def test_json_says_what_was_done(edge_sdk_command, shop: Shop) -> None:
    found = edge_sdk_command(
        "export", shop.model, "--plan", shop.folder / "plan.json", "--out", shop.out, "--target", "raspberry-pi-5",
        "--cpu", "x86", "--json",
    )  # fmt: skip
    assert found.json["target"] == "raspberry-pi-5"
    assert found.json["plan_sha256"] == shop.plan.sha256
    assert found.json["differences"] == []
    assert "WARNING: the plan was made for generic-x86_64" in found.err


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"prepared_sha256": "0"}, 1, "cannot be made from tiny.onnx"),
        ({"schema": 2}, 1, "plan schema 2 is not 1, which this version reads"),
        ({"target": "toaster"}, 1, "toaster"),
        ({"ranges": {}}, 1, "the plan has no range for the tensor"),
    ],
)
def test_a_plan_that_does_not_fit_is_one_line(
    change: dict[str, object], code: int, says: str, edge_sdk_command, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({**asdict(shop.plan), **change}))
    ran = edge_sdk_command("export", shop.model, "--plan", tmp_path / "plan.json", "-o", tmp_path / "out.onnx")
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()


def test_wrong_usage_is_exit_code_2(edge_sdk_command, shop: Shop) -> None:
    assert edge_sdk_command("export", shop.model).code == 2
    ran = edge_sdk_command("export", shop.model, "--plan", shop.folder / "plan.json", "-o", shop.model)
    assert ran.code == 2
    assert "would be written over what it is made from" in ran.err
