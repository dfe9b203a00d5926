"""The list of public models, and finding their files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.errors import ChecksumError, DownloadError, ModelError, ModelNotFoundError, UsageError
from edge_sdk.models import zoo
from edge_sdk.models.heads.base import heads
from edge_sdk.models.zoo import Store, ZooModel

BYTES = b"the bytes of a small model"
WRONG = bytes(reversed(BYTES))  # of the same size


def entry(name: str, content: bytes = BYTES, file: str | None = None) -> ZooModel:
    return ZooModel(
        name=name,
        title="A small model",
        task="object detection",
        publisher="Nobody",
        file=file or f"published_{name}_2022nov.onnx",
        url="http://127.0.0.1:9/nothing.onnx",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        head="yolox",
        note=None,
    )


SMALL = entry("small-one")
OTHER = entry("other-one", b"another model")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folders = (tmp_path / "stick", tmp_path / "mine")
    for folder in (*folders, tmp_path / "cache"):
        folder.mkdir()
    return Store({"small-one": SMALL, "other-one": OTHER}, tmp_path / "cache", folders)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    zoo._verified.clear()
    yield
    zoo._verified.clear()


def put(path: Path, content: bytes = BYTES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- the list ------------------------------------------------------------------------------------


def test_the_zoo_has_the_eight_models_and_their_published_checksums() -> None:
    sizes = {
        "yolox-s": 35858002,
        "yolox-s-int8": 9079452,
        "nanodet-m": 3800954,
        "nanodet-m-int8": 1031424,
        "yunet": 232589,
        "yunet-int8": 100416,
        "sface": 38696353,
        "lpd-yunet": 4146213,
    }
    assert {name: model.size_bytes for name, model in zoo.zoo().items()} == sizes
    assert zoo.zoo()["yunet"].sha256 == "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


@pytest.mark.parametrize("name", list(zoo.zoo()))
def test_an_address_is_encrypted_and_pinned_to_a_commit(name: str) -> None:
    model = zoo.zoo()[name]
    assert model.url.startswith("https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/")
    assert model.url.endswith(f"/{model.file}")


@pytest.mark.parametrize("name", list(zoo.zoo()))
def test_a_model_has_a_head_of_ours_or_says_why_not(name: str) -> None:
    model = zoo.zoo()[name]
    assert model.head in heads() if model.head else model.note


def test_the_published_checksum_is_that_of_the_real_file(shared: Path) -> None:
    model = zoo.zoo()["nanodet-m"]
    file = shared / "models" / "nanodet_m" / "nanodet_m.onnx"
    assert (file.stat().st_size, zoo.check(file)) == (model.size_bytes, model.sha256)


GOOD = """
[publishers.here]
title = "Here"
revision = "1"
url = "https://example.org/{revision}/{path}"
[models.one]
title = "One"
task = "object detection"
publisher = "here"
path = "a/one.onnx"
bytes = 3
sha256 = "%s"
licence = "MIT"
head = "yolox"
""" % ("0" * 64)


def test_an_entry_is_read_whole() -> None:
    model = zoo.parse(GOOD)["one"]
    assert (model.url, model.file) == ("https://example.org/1/a/one.onnx", "one.onnx")
    assert (model.publisher, model.licence, model.head, model.note) == ("Here", "MIT", "yolox", None)


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [
        ("[models.one]", "[models.One_]", "name"),
        ('publisher = "here"', 'publisher = "there"', "publisher"),
        ("a/one.onnx", "a/../one.onnx", "path"),
        ("a/one.onnx", "/one.onnx", "path"),
        ("bytes = 3", "bytes = 0", "bytes"),
        ("bytes = 3", "bytes = true", "bytes"),
        ("0" * 64, "0" * 63, "sha256"),
        ("0" * 64, "Z" * 64, "sha256"),
        ('head = "yolox"', "", "note"),
        ('licence = "MIT"', "", "licence"),
        ("licence", "license", "unknown key 'license'"),
        ("[models.one]", "[models.one", "not TOML"),
    ],
)
def test_a_malformed_entry_is_named(good: str, bad: str, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        zoo.parse(GOOD.replace(good, bad, 1))


def test_two_models_cannot_share_a_file() -> None:
    twin = GOOD[GOOD.index("[models.one]") :].replace("models.one", "models.two")
    with pytest.raises(ModelError, match="same file"):
        zoo.parse(GOOD + twin)


# --- where the files lie -------------------------------------------------------------------------


def test_a_model_that_is_nowhere_is_not_found(store: Store) -> None:
    assert store.find("small-one") is None


def test_a_fetched_model_is_found_in_the_cache(store: Store) -> None:
    path = put(store.cache / SMALL.file)
    assert store.find("small-one") == path


def test_a_model_is_found_in_an_offline_folder_by_its_file_name(store: Store) -> None:
    path = put(store.folders[1] / "deep" / "down" / SMALL.file)
    assert store.find("small-one") == path


def test_a_model_is_found_in_an_offline_folder_by_its_bytes(store: Store) -> None:
    path = put(store.folders[0] / "copied by hand.bin")
    assert store.find("small-one") == path


def test_the_cache_comes_first_and_then_the_folders_in_order(store: Store) -> None:
    for path in (store.folders[1] / SMALL.file, store.folders[0] / "renamed.onnx", store.cache / SMALL.file):
        put(path)
        assert store.find("small-one") == path


@pytest.mark.parametrize("content", [WRONG, BYTES[:-1], BYTES + b"!", b""])
def test_a_file_with_other_bytes_is_never_the_model(store: Store, content: bytes) -> None:
    put(store.cache / SMALL.file, content)
    put(store.folders[0] / SMALL.file, content)
    assert store.find("small-one") is None


def test_a_right_copy_is_used_beside_a_wrong_one(store: Store) -> None:
    wrong = [put(store.cache / SMALL.file, WRONG), put(store.folders[0] / SMALL.file, WRONG)]
    right = put(store.folders[1] / "x.onnx")
    assert store.find("small-one") == right
    assert store.impostors(SMALL) == wrong


def test_a_folder_or_a_pipe_of_the_name_is_no_model(store: Store) -> None:
    (store.cache / SMALL.file).mkdir()
    os.mkfifo(store.folders[0] / SMALL.file)
    assert store.find("small-one") is None


def test_an_unknown_name_lists_close_ones(store: Store) -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean small-one"):
        store.find("smal_one")


def test_the_search_is_bounded_in_depth(store: Store) -> None:
    put(store.folders[0].joinpath(*"12345") / SMALL.file)
    assert store.find("small-one") is None
    right = put(store.folders[0].joinpath(*"1234") / SMALL.file)
    assert store.find("small-one") == right


def test_the_search_is_bounded_in_breadth(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(zoo, "_SCAN_ENTRIES", 10)
    for i in range(12):
        put(store.folders[0] / f"a{i:02}", b"")
    put(store.folders[0] / SMALL.file)
    assert store.find("small-one") is None
    assert "over 10 entries" in caplog.text


def test_links_in_a_circle_and_hidden_folders_are_left_out(store: Store) -> None:
    (store.folders[0] / "again").symlink_to(store.folders[0])
    put(store.folders[0] / ".git" / SMALL.file)
    assert list(zoo.scan(store.folders[0])) == []


def test_a_link_to_the_file_is_the_file(store: Store, tmp_path: Path) -> None:
    (store.cache / SMALL.file).symlink_to(put(tmp_path / "elsewhere"))
    assert store.find("small-one") == store.cache / SMALL.file


# --- remembering ---------------------------------------------------------------------------------


class HashedError(Exception):
    """A file was read that should have been remembered."""


def _no_hashing(_: object) -> str:
    raise HashedError


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once, so that no test waits two seconds."""
    monkeypatch.setattr(zoo, "_SETTLED_NS", -1)


@pytest.mark.usefixtures("settled")
def test_a_verified_file_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store.folders[0] / SMALL.file)
    assert store.find("small-one") == path
    monkeypatch.setattr(zoo, "sha256_of", _no_hashing)
    assert store.find("small-one") == path


@pytest.mark.usefixtures("settled")
def test_the_next_process_believes_the_stamp_of_a_cached_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store.cache / SMALL.file)
    assert store.find("small-one") == path
    zoo._verified.clear()
    monkeypatch.setattr(zoo, "sha256_of", _no_hashing)
    assert store.find("small-one") == path


@pytest.mark.usefixtures("settled")
def test_the_next_process_reads_an_offline_file_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store.folders[0] / SMALL.file)
    assert store.find("small-one") == path
    assert [found.name for found in store.folders[0].iterdir()] == [SMALL.file]
    zoo._verified.clear()
    monkeypatch.setattr(zoo, "sha256_of", _no_hashing)
    with pytest.raises(HashedError):
        store.find("small-one")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("remembered", [True, False], ids=["this process", "the next process"])
@pytest.mark.parametrize("replaced", [True, False], ids=["renamed over it", "written in place"])
def test_a_file_exchanged_behind_our_back_is_noticed(
    store: Store, tmp_path: Path, remembered: bool, replaced: bool
) -> None:
    path = put(store.cache / SMALL.file)
    assert store.find("small-one") == path
    times = path.stat()
    if replaced:
        put(tmp_path / "new", WRONG).replace(path)
    else:
        path.write_bytes(WRONG)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time of writing as before
    if not remembered:
        zoo._verified.clear()
    assert store.find("small-one") is None


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["not JSON", "[]", "{}", '{"identity": [1], "sha256": ""}', '{"identity": 5}'])
def test_a_broken_stamp_is_no_stamp(store: Store, damage: str) -> None:
    path = put(store.cache / SMALL.file)
    assert store.find("small-one") == path
    zoo._verified.clear()
    zoo._stamp(path).write_text(damage)
    assert store.find("small-one") == path


@pytest.mark.usefixtures("settled")
def test_a_stamp_that_others_could_write_is_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(store.cache / SMALL.file)
    assert store.find("small-one") == path
    zoo._verified.clear()
    zoo._stamp(path).chmod(0o666)
    monkeypatch.setattr(zoo, "sha256_of", _no_hashing)
    with pytest.raises(HashedError):
        store.find("small-one")


def test_a_file_that_changed_just_now_is_not_remembered(store: Store) -> None:
    put(store.cache / SMALL.file)
    assert store.find("small-one")
    assert not zoo._verified
    assert [path.name for path in store.cache.iterdir()] == [SMALL.file]


# --- what a user means ---------------------------------------------------------------------------


def test_a_path_is_a_file(store: Store, tmp_path: Path) -> None:
    own = put(tmp_path / "own.onnx", b"anything")
    assert store.resolve(own) == own
    assert store.resolve(str(own)) == own


def test_a_file_in_this_folder_goes_before_a_zoo_model(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store.cache / SMALL.file)
    put(tmp_path / "small-one", b"my own")
    monkeypatch.chdir(tmp_path)
    assert store.resolve("small-one") == Path("small-one")


@pytest.mark.parametrize("name", ["small-one", SMALL.file, SMALL.file.removesuffix(".onnx")])
def test_a_zoo_model_answers_to_its_name_and_its_file(store: Store, name: str) -> None:
    path = put(store.folders[0] / "whatever.onnx")
    assert store.resolve(name) == path


def test_a_zoo_model_that_is_not_here_says_how_to_fetch_it(store: Store) -> None:
    with pytest.raises(ModelNotFoundError, match="edge-sdk models pull small-one") as caught:
        store.resolve("small-one")
    assert isinstance(caught.value, FileNotFoundError)


def test_a_damaged_zoo_model_says_how_to_mend_it(store: Store) -> None:
    put(store.cache / SMALL.file, WRONG)
    with pytest.raises(ChecksumError, match=r"was not used: run 'edge-sdk models pull small-one'"):
        store.resolve("small-one")


@pytest.mark.parametrize("name", ["mine.onnx", "mine"])
def test_a_file_of_my_own_is_found_in_a_model_folder(store: Store, name: str) -> None:
    path = put(store.folders[1] / "sub" / "mine.onnx", b"my own")
    put(store.folders[1] / "sub" / "mine.toml", b"")
    assert store.resolve(name) == path


def test_a_name_that_fits_two_files_of_mine_is_refused(store: Store) -> None:
    put(store.folders[0] / "mine.onnx", b"1")
    put(store.folders[0] / "mine.tflite", b"2")
    with pytest.raises(UsageError, match=r"mine\.onnx and mine\.tflite"):
        store.resolve("mine")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("smal-one", "did you mean small-one"),
        ("mine.onxx", r"did you mean mine\.onnx"),
        ("qqqq", "edge-sdk models list"),
        ("nowhere/model.onnx", "no such file"),
        ("", "no zoo model ''"),
        ("a\0b", "no zoo model"),
        ("x" * 5000, "cannot be a model"),
    ],
)
def test_what_means_nothing_is_said_in_a_line(store: Store, given: str, told: str) -> None:
    put(store.folders[0] / "mine.onnx", b"1")
    with pytest.raises(ModelNotFoundError, match=told) as caught:
        store.resolve(given)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_model(store: Store) -> None:
    with pytest.raises(ModelNotFoundError, match="is a folder"):
        store.resolve(store.cache)


# --- fetching ------------------------------------------------------------------------------------


def test_pull_asks_no_server_for_what_is_here(store: Store) -> None:
    path = put(store.folders[0] / SMALL.file)
    assert store.pull("small-one") == path
    assert list(store.cache.iterdir()) == []


def test_pull_clears_away_a_damaged_file_that_an_offline_copy_makes_needless(store: Store) -> None:
    put(store.cache / SMALL.file, WRONG)
    path = put(store.folders[0] / "copy.onnx")
    assert store.pull("small-one") == path
    assert store.impostors(SMALL) == []


def test_pull_says_when_the_server_cannot_be_reached(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match="refused"):
        store.pull("small-one")


# --- the environment -----------------------------------------------------------------------------


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path))
    assert zoo.cache_folder() == tmp_path / "models"
    monkeypatch.delenv("EDGE_SDK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert zoo.cache_folder() == Path("/somewhere/edge-sdk/models")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert zoo.cache_folder() == tmp_path / ".cache/edge-sdk/models"


def test_model_folders_that_are_not_there_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EDGE_SDK_MODELS", os.pathsep.join([str(tmp_path), "", str(tmp_path / "gone")]))
    assert zoo.offline_folders() == (tmp_path,)
    assert "gone, which is no folder" in caplog.text


def test_a_real_model_in_an_offline_folder_is_found_under_its_other_name(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SDK_MODELS", str(shared / "models"))
    expected = shared / "models" / "nanodet_m" / "nanodet_m.onnx"
    assert zoo.find("nanodet-m") == zoo.resolve("nanodet-m") == zoo.pull("nanodet-m") == expected
    assert zoo.find("yolox-s") is None
    assert zoo.resolve("FastestDet") == shared / "models" / "fastestdet" / "FastestDet.onnx"


def test_a_path_needs_neither_cache_nor_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGE_SDK_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    own = put(tmp_path / "own.onnx")
    assert zoo.resolve(own) == own
    with pytest.raises(ModelError, match="set EDGE_SDK_CACHE"):
        zoo.resolve("yolox-s")


def test_looking_loads_no_network_modules() -> None:
    code = "import sys; from edge_sdk.models import zoo; zoo.find('yunet'); print('urllib.request' in sys.modules)"
    root = Path(zoo.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_cache_on_a_medium_that_cannot_be_written_is_only_slower(store: Store, tmp_path: Path) -> None:
    path = put(store.cache / SMALL.file)
    zoo._write_stamp(tmp_path / "gone" / SMALL.file, (0, 0, 0, 0, 0), "")
    shutil.rmtree(tmp_path / "mine")
    assert store.find("small-one") == path
