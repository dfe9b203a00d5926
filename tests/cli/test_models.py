"""`edge-sdk models`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_sdk.cli import models as command
from edge_sdk.errors import ChecksumError, DownloadError, ModelNotFoundError, UsageError
from edge_sdk.models.zoo import Store, ZooModel

GOOD = b"good " * 20_000
BAD = b"bad " * 20_000


class Handler(BaseHTTPRequestHandler):
    """Serves GOOD for good.onnx and the same for every other name, whose models expect BAD."""

    def do_GET(self) -> None:
        self.send_response(404 if "gone" in self.path else 200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(GOOD)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def entry(name: str, content: bytes, head: str | None = "yolox") -> ZooModel:
        return ZooModel(
            name=name,
            title=f"The {name} model",
            task="object detection",
            publisher="Test",
            file=f"{name}.onnx",
            url=f"{address}/{name}.onnx",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            licence="MIT",
            head=head,
            note=None if head else "not a detector",
        )

    models = [entry("good", GOOD), entry("bad", BAD, head=None), entry("gone", b"gone")]
    (tmp_path / "stick").mkdir()
    return Store({model.name: model for model in models}, tmp_path / "cache" / "models", (tmp_path / "stick",))


def call(store: Store, *words: str) -> Any:
    return CliRunner().invoke(command.app, list(words), obj=store)


def test_list_shows_each_model_and_where_it_lies(store: Store) -> None:
    (store.folders[0] / "copy.bin").write_bytes(GOOD)
    done = call(store, "list")
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert lines["good"].split()[-1] == "offline"
    assert lines["bad"].split()[3] == "-"
    assert lines["bad"].split()[-1] == "no"
    assert "0.1 MB" in lines["good"]


def test_list_as_json_is_clean(store: Store) -> None:
    facts = json.loads(call(store, "list", "--json").stdout)
    assert [model["name"] for model in facts["models"]] == ["good", "bad", "gone"]
    assert facts["models"][0]["where"] is None
    assert facts["models"][1]["note"] == "not a detector"
    assert facts["cache"] == str(store.cache)
    assert "default" in facts


def test_list_tells_a_wrong_file_from_none(store: Store) -> None:
    store.cache.mkdir(parents=True)
    (store.cache / "good.onnx").write_bytes(BAD)
    assert "no, a wrong file" in call(store, "list").stdout


def test_info_says_why_a_model_is_download_only(store: Store) -> None:
    shown = call(store, "info", "bad").stdout
    assert "none: download only" in shown
    assert "not a detector" in shown
    assert "edge-sdk models pull bad" in shown


def test_info_as_json_has_the_checksum(store: Store) -> None:
    facts = json.loads(call(store, "info", "good", "--json").stdout)
    assert facts["sha256"] == hashlib.sha256(GOOD).hexdigest()
    assert facts["bytes"] == len(GOOD)


def test_info_of_an_unknown_name_lists_close_ones(store: Store) -> None:
    done = call(store, "info", "goood")
    assert isinstance(done.exception, ModelNotFoundError)
    assert "did you mean good" in str(done.exception)


def test_pull_fetches_and_prints_only_the_path(store: Store) -> None:
    done = call(store, "pull", "good")
    assert done.exit_code == 0
    assert done.stdout == f"{store.cache / 'good.onnx'}\n"
    assert (store.cache / "good.onnx").read_bytes() == GOOD
    assert "fetching 0.1 MB from http://127.0.0.1" in done.stderr
    assert "good: 50 %" in done.stderr
    assert "checksum right" in done.stderr


def test_pull_leaves_alone_what_is_here(store: Store) -> None:
    call(store, "pull", "good")
    done = call(store, "pull", "good", "--json")
    assert json.loads(done.stdout)["pulled"][0]["fetched"] is False
    assert "already here (cache)" in done.stderr


def test_pull_of_wrong_bytes_fails_and_leaves_nothing(store: Store) -> None:
    done = call(store, "pull", "bad")
    assert isinstance(done.exception, (ChecksumError, DownloadError))
    assert list(store.cache.iterdir()) == []


def test_pull_of_several_goes_on_after_a_failure(store: Store) -> None:
    done = call(store, "pull", "gone", "good", "--json")
    answer = json.loads(done.stdout)
    assert [model["name"] for model in answer["pulled"]] == ["good"]
    assert [model["name"] for model in answer["failed"]] == ["gone"]
    assert isinstance(done.exception, DownloadError)
    assert "1 of 2 models were not fetched: gone" in str(done.exception)


def test_pull_all_asks_for_every_model(store: Store) -> None:
    answer = json.loads(call(store, "pull", "--all", "--json").stdout)
    assert {model["name"] for model in [*answer["pulled"], *answer["failed"]]} == {"good", "bad", "gone"}


@pytest.mark.parametrize("words", [[], ["good", "--all"]])
def test_pull_wants_names_or_all(store: Store, words: list[str]) -> None:
    assert isinstance(call(store, "pull", *words).exception, UsageError)


def test_pull_of_an_unknown_name_fetches_nothing(store: Store) -> None:
    assert isinstance(call(store, "pull", "good", "nonsense").exception, ModelNotFoundError)
    assert not store.cache.exists()


def test_verify_reads_every_file_again(store: Store) -> None:
    call(store, "pull", "good")
    (store.cache / "mine.onnx").write_bytes(b"x")
    (store.cache / "bad.onnx.part").write_bytes(b"x")
    (store.folders[0] / "copy.bin").write_bytes(GOOD)
    (store.folders[0] / "my own.onnx").write_bytes(b"not of the zoo")
    done = call(store, "verify", "--json")
    assert done.exit_code == 0
    states = {Path(file["path"]).name: (file["name"], file["state"]) for file in json.loads(done.stdout)["files"]}
    assert states == {
        "good.onnx": ("good", "right"),
        "mine.onnx": (None, "unknown"),
        "bad.onnx.part": ("bad", "unfinished"),
        "copy.bin": ("good", "right"),
    }


def test_verify_of_a_damaged_file_fails_and_says_how_to_mend_it(store: Store) -> None:
    call(store, "pull", "good")
    (store.cache / "good.onnx").write_bytes(GOOD[:-1] + b"?")
    (store.folders[0] / "bad.onnx").write_bytes(b"junk")
    done = call(store, "verify")
    assert isinstance(done.exception, ChecksumError)
    assert "2 files are wrong" in str(done.exception)
    assert "edge-sdk models pull good" in str(done.exception)
    assert "replace or rename" in str(done.exception)
    call(store, "pull", "good")
    assert (store.cache / "good.onnx").read_bytes() == GOOD


def test_verify_of_an_empty_cache_is_content(store: Store) -> None:
    done = call(store, "verify")
    assert done.exit_code == 0
    assert "no model files" in done.stderr


@pytest.mark.parametrize("name", ["list", "info", "pull", "verify"])
def test_each_command_helps_with_an_example(name: str) -> None:
    assert f"edge-sdk models {name}" in " ".join(CliRunner().invoke(command.app, [name, "--help"]).stdout.split())


def test_the_command_gives_one_line_and_exit_code_1() -> None:
    words = [sys.executable, "-c", "from edge_sdk.cli import main; main()", "models", "info", "yolox"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(command.__file__).parents[2])
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "did you mean yolox-s" in done.stderr


def test_the_help_loads_nothing_heavy() -> None:
    code = "import sys, edge_sdk.cli.models; print({'numpy', 'urllib.request', 'cv2'} & set(sys.modules))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(command.__file__).parents[2])
    assert done.stdout.strip() == "set()"
