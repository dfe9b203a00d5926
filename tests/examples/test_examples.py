"""Every example of the documentation runs, and every block of a page is an example or runs as it stands.

That the blocks which name an example are its exact text is tested in tests/test_docs.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk import Detector, ModelCard, Reading, Reconnect, Stats, targets
from edge_sdk.errors import AmbiguousLayoutError, EdgeSdkError, UnknownLayoutError
from edge_sdk.measure.running import PowerStats
from edge_sdk.models import heads as heads_package
from edge_sdk.models.card import read_sidecar
from edge_sdk.models.heads.base import heads
from edge_sdk.pipeline.books import DROP_CAUSES
from edge_sdk.pipeline.life import TRANSITIONS
from edge_sdk.sinks.metrics import MetricsCollector, text
from edge_sdk.targets.tables import families, parse

Run = Callable[..., str]

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [*sorted(DOCS.rglob("*.md")), REPOSITORY / "README.md"]

SHOWN = runpy.run_path(str(REPOSITORY / "tools/sync_docs_examples.py"))["SHOWN"]  # a file's name and its block
# Examples that are no program: each has a test of its own below.
NO_PROGRAMS = {
    "acme_boards.toml",
    "class_names.toml",
    "heads/yolov7_end2end.py",
    "helmets.toml",
    "yolox_nano.toml",
}
# In a page's Python: no camera is attached where this runs, and of the zoo one model is there.
PAGE_STAND_INS = {
    "edge_sdk.Camera()": "edge_sdk.Camera('street.mp4')",
    '"yunet"': '"nanodet-m"',
}

# What stands in for each placeholder of an example's first line, in the folder where examples run.
STAND_INS = {
    "VIDEO": "street.mp4",
    "SOURCE": "street.mp4",
    "CAMERA": "demo",  # live: a size is asked of nothing else
    "URL": "street.mp4",
    "SCENE": "demo:fast",
    "PHOTO": "photo.jpg",
    "PHOTOS": "photos",
    "PHOTO, FOLDER or 'PATTERN'": "photos",
    "MODEL": "yolox_nano.onnx",
    "END2END": "yolov7-tiny-end2end.onnx",
    "CLASS ...": "helmet",
    "SECONDS": "1",  # of a window, where there is a power sensor; 100 detections at least
    "ADDRESS": "127.0.0.1:0",  # any free port
    "BROKER": "mqtt://127.0.0.1:1/edge/door",  # where nobody listens: see below for one that does
}
ARGUMENTS = {
    "card_into_onnx.py": ["helmets.onnx", "helmet", "vest", "person", "glove"],
    # A detector of red and green things, whose plan takes seconds.
    **{f"calibrate{which}.py": ["tiny.onnx", "coloured", "30"] for which in ("", "_own_metric", "_own_range")},
}
PRINTS = {
    "three_lines.py": r"class 0 x[12]",  # the two people of the built-in scene
    "one_picture.py": r"^person 0\.\d\d at \d+,\d+ to \d+,\d+$",
    "count_people.py": r"^ +0 s +[1-9]$",
    "write_jsonl.py": r"^8 captured, 8 processed, dropped: \{\}$",
    "supervision_zone.py": r"^frame 0: \d+ of [1-9]",
    "two_cameras.py": r"street.mp4: [1-9] people at most, 8 frames",
    "card_in_code.py": r"^Detections\([1-9]",
    "card_into_onnx.py": r"head yolox, helmet, vest, person, glove",
    "use_own_head.py": r"head yolov7_end2end\nDetections\(1: class 16 x1; best 0\.90\)",
    "own_source.py": r"^7 Detections\(",
    "live_events.py": r"^\w+ -> reconnecting fake: .*\nreconnecting -> streaming(.*\n)+1 reconnection, [1-9]",
    "count_line.py": r"^frame 0: {'queue': [01], 'door in': 0, 'door out': 0}, ids \[",
    "own_sink.py": r"^SinkStats\(written=8, dropped=0, failed=0",
    "http_page.py": r"^open http://127.0.0.1:\d+$",
    "publish_mqtt.py": r"^SinkStats\(written=0, .*no connection to the broker 127.0.0.1:1: .* refuses connections",
    "resume_coco.py": r"^0 photos were finished before\n(photos/.*\n){5}",
    "calibrate.py": r"^\d+ of 25 groups in INT8 on [\w-]+\n",
    "calibrate_own_metric.py": r"^\d+ groups in INT8$",
    "calibrate_own_range.py": r"^[1-9]\d* ranges$",
}
# What an example needs beyond the base: a word in it, a package, and the extra that brings it.
NEEDS = (
    ("track=True", "trackers", "tracking"),
    ("HttpSink", "starlette", "http"),
    ("MqttSink", "paho.mqtt", "mqtt"),
    *(("edge_sdk.calibrate(", module, "calibrate") for module in ("onnx", "scipy", "pycocotools", "plotly")),
)
WRITES = {
    "save_crops.py": "crops/person/*.jpg",
    "write_jsonl.py": "detections.jsonl",
    "save_video.py": "annotated.mp4",
    "supervision_zone.py": "zone.jpg",
    "draw_result.py": "drawn.jpg",
    "card_into_onnx.py": "helmets_with_card.onnx",
    "own_sink.py": "visits/*.jpg",
    "resume_coco.py": "found.json",
    "calibrate.py": "calibrated/report.html",
}


@pytest.fixture(scope="session")
def stage(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples take: a short clip, photos and models."""
    folder = tmp_path_factory.mktemp("stage")
    for model in ("yolox_nano/yolox_nano.onnx", "nanodet_m/nanodet_m.onnx"):
        shutil.copy(shared / "models" / model, folder)
    (folder / "photos").mkdir()
    for photo in sorted((shared / "data/coco_eval/images").glob("*.jpg"))[:4]:
        shutil.copy(photo, folder / "photos")
    clip = cv2.VideoCapture(str(shared / "data/videos/one-by-one-person-detection.mp4"))
    clip.set(cv2.CAP_PROP_POS_FRAMES, 150)
    writer = cv2.VideoWriter(str(folder / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (768, 432))
    for number in range(8):
        read, frame = clip.read()
        assert read
        writer.write(frame)
        if number == 0:
            cv2.imwrite(str(folder / "photo.jpg"), frame)
            cv2.imwrite(str(folder / "photos/a_person.jpg"), frame)
    clip.release()
    writer.release()
    if importlib.util.find_spec("onnx") is not None:
        from ..models.tiny_yolox import write, write_photos  # noqa: TID252  there is no package of tests to name

        write(folder / "tiny.onnx")
        write_photos(folder / "coloured", range(24))
    _constant(folder / "helmets.onnx", (1, 3, 416, 416), np.zeros((1, 3549, 9), np.float32))
    _constant(folder / "odd.onnx", (1, 3, 320, 320), np.zeros((1, 100, 7), np.float32))
    one_dog = np.array([[0, 64, 32, 320, 480, 16, 0.9]], np.float32)
    _constant(folder / "yolov7-tiny-end2end.onnx", (1, 3, 640, 640), one_dog)
    return folder


def _constant(path: Path, input_shape: tuple[int, ...], output: np.ndarray) -> None:
    """A model that answers the same whatever it sees."""
    onnx = pytest.importorskip("onnx")
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["answer"], ["output"])],
        "constant",
        [onnx.helper.make_tensor_value_info("images", floats, input_shape)],
        [onnx.helper.make_tensor_value_info("output", floats, output.shape)],
        [onnx.numpy_helper.from_array(output, "answer")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.fixture
def own_folder(stage: Path, tmp_path: Path) -> Path:
    """The same, for one example to write in."""
    for item in stage.iterdir():
        (tmp_path / item.name).symlink_to(item)
    return tmp_path


def _environment(shared: Path) -> Mapping[str, str]:
    return {**os.environ, "EDGE_SDK_MODELS": str(shared / "models")}


@pytest.fixture
def run(
    own_folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs an example as a program with these arguments, and returns what it printed."""
    monkeypatch.chdir(own_folder)
    monkeypatch.setenv("EDGE_SDK_MODELS", str(shared / "models"))
    monkeypatch.setenv("EDGE_SDK_CACHE", str(own_folder / "cache"))
    # One example extends the search path of the heads: no later test may find its head.
    monkeypatch.setattr(heads_package, "__path__", [*heads_package.__path__])
    heads.cache_clear()

    def run_one(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    yield run_one
    heads.cache_clear()
    sys.modules.pop("edge_sdk.models.heads.yolov7_end2end", None)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs(example: Path, own_folder: Path, run: Run) -> None:
    if "supervision" in example.name:
        pytest.importorskip("supervision")
    first_line = example.read_text().splitlines()[0]
    arguments = ARGUMENTS.get(example.name) or [STAND_INS[word] for word in re.findall(r"\[([^]]+)\]", first_line)]
    if "demo" in example.read_text() or "demo" in arguments:
        pytest.importorskip("matplotlib")
    for word, module, extra in NEEDS:
        if word in example.read_text():
            pytest.importorskip(module, reason=f"{module} is not installed: pip install 'edge-sdk[{extra}]'")
    printed = run(example.name, *arguments)
    assert re.search(PRINTS.get(example.name, ""), printed, re.MULTILINE), printed
    if example.name in WRITES:
        written = list(own_folder.glob(WRITES[example.name]))
        assert written, f"{WRITES[example.name]} was not written"
        assert all(path.stat().st_size for path in written)


def test_no_example_is_left_out() -> None:
    files = {path for path in EXAMPLES.rglob("*.*") if "__pycache__" not in path.parts}
    assert {path.relative_to(EXAMPLES).as_posix() for path in files - set(EXAMPLES.glob("*.py"))} == NO_PROGRAMS


def test_the_drawn_photo_differs_from_the_photo(own_folder: Path, run: Run) -> None:
    run("draw_result.py", "photo.jpg", "yolox_nano.onnx")
    drawn, photo = cv2.imread(str(own_folder / "drawn.jpg")), cv2.imread(str(own_folder / "photo.jpg"))
    assert drawn.shape == photo.shape
    assert (cv2.absdiff(drawn, photo) > 60).mean() > 0.001


def test_each_line_of_the_jsonl_example_is_a_frame(own_folder: Path, run: Run) -> None:
    run("write_jsonl.py", "photo.jpg", "yolox_nano.onnx")
    (record,) = map(json.loads, (own_folder / "detections.jsonl").read_text().splitlines())
    assert record["detections"][0].keys() == {"xyxy", "confidence", "class_id", "class_name", "track_id"}


def test_the_folder_is_gone_on_with_where_it_was_interrupted(own_folder: Path, run: Run) -> None:
    code = (EXAMPLES / "resume_coco.py").read_text()
    stopped = own_folder / "stopped.py"
    stopped.write_text(code.replace("camera.detect(", "camera.detect(frames=2, ").replace("sink.finish()", "pass"))
    subprocess.run([sys.executable, stopped, "photos", "yolox_nano.onnx"], cwd=own_folder, check=True, timeout=60)
    assert not (own_folder / "found.json").exists()
    printed = run("resume_coco.py", "photos", "yolox_nano.onnx")
    assert re.match(r"2 photos were finished before\n(photos/.*\n){3}$", printed), printed
    listed = json.loads((own_folder / "found.images.json").read_text())["images"]
    assert len({image["id"] for image in listed}) == 5
    found = json.loads((own_folder / "found.json").read_text())
    assert {row["image_id"] for row in found} <= {image["id"] for image in listed}


def test_the_mqtt_example_tells_a_broker_what_it_sees(own_folder: Path, run: Run) -> None:
    mqtt = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: pip install 'edge-sdk[mqtt]'")
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("there is no Mosquitto to test with: apt install mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = own_folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    heard: list[tuple[str, str]] = []
    listener = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    listener.on_connect = lambda client, *_: client.subscribe("edge/door/#")
    listener.on_message = lambda _, __, one: heard.append((one.topic.rpartition("/")[2], one.payload.decode()))
    with subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            listener.connect_async("127.0.0.1", port)
            listener.loop_start()  # tries again until the broker listens
            _until(listener.is_connected, "the connection")
            printed = run("publish_mqtt.py", "street.mp4", f"mqtt://127.0.0.1:{port}/edge/door", "yolox_nano.onnx")
            _until(lambda: ("state", "stopped") in heard, "the last state")
        finally:
            listener.disconnect()
            listener.loop_stop()
            broker.kill()
    assert ("counts", '{"door in": 0, "door out": 0}') in heard
    written = int(re.search(r"written=(\d+), dropped=0, failed=0", printed)[1])
    assert [topic for topic, _ in heard].count("result") == written == 8


def _until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


# --- tables of the pages --------------------------------------------------------------------------


def _table(page: str, first_cells: str) -> dict[str, list[str]]:
    """The rows of the page's table whose head begins like this: what follows the first cell, by that."""
    after = (DOCS / page).read_text().split(f"\n| {first_cells} |", 1)[1]
    rows = after.split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_states_and_what_may_follow_them_are_those_of_the_code() -> None:
    rows = _table("live.md", "state | means")
    assert {state: frozenset(re.findall(r"`(\w+)`", row[-1])) for state, row in rows.items()} == TRANSITIONS


def test_the_causes_of_drops_are_those_of_the_code() -> None:
    assert list(_table("live.md", "cause in `dropped`")) == list(DROP_CAUSES)


def test_the_defaults_of_a_reconnection_are_those_of_the_code() -> None:
    rows = _table("live.md", "field")
    shown = {name: row[0] for name, row in rows.items()}
    assert shown.pop("restarts`, `within_s") == "10, 60"
    assert (Reconnect().restarts, Reconnect().within_s) == (10, 60)
    assert {name: None if value == "none" else float(value) for name, value in shown.items()} == {
        name: getattr(Reconnect(), name) for name in ("first_s", "longest_s", "give_up_s")
    }


def test_the_metrics_are_those_that_are_served() -> None:
    pytest.importorskip("prometheus_client", reason="not installed: pip install 'edge-sdk[http]'")
    energy = PowerStats(
        1.0, 5.0, 5.0, "sensor_total", None, 10, 0.0, latest=Reading("board", 5.0, "w", "sensor_total", 1)
    )
    stats = Stats(0, 0, {}, 0, {}, energy=energy)
    collector = MetricsCollector(lambda: stats, "camera", lambda: {"door in": 1})
    served = re.findall(r"^# TYPE (\w+)", text(collector)[0].decode(), re.MULTILINE)
    rows = _table("outputs.md", "metric")
    assert sorted(re.findall(r"edge_sdk_\w+", " ".join(rows))) == sorted(served)


# --- tables and model cards -----------------------------------------------------------------------


def test_the_board_of_ones_own_is_read() -> None:
    shipped = {family: (REPOSITORY / f"targets/{family}/boards.toml").read_text() for family in families()}
    board = parse({**shipped, "acme": (EXAMPLES / "acme_boards.toml").read_text()})["acme-vision-kit"]
    assert (board.label, board.memory_mib, board.soc) == (
        "Acme Vision Kit",
        6144,
        targets.load("snapdragon-qcm6490").soc,
    )
    assert [rail.name for rail in board.rails] == ["VIN"]


def test_the_full_card_says_what_the_sdk_recognises_by_itself(own_folder: Path) -> None:
    with Detector(own_folder / "yolox_nano.onnx") as plain:
        recognised = plain.card
    assert ModelCard(**read_sidecar(EXAMPLES / "yolox_nano.toml")) == _with_licence(recognised)


def _with_licence(card: ModelCard) -> ModelCard:
    return ModelCard(**{**vars(card), "licence": "Apache-2.0"})


@pytest.mark.parametrize("card", ["helmets.toml", "class_names.toml"])
def test_a_short_card_settles_the_ambiguous_model(card: str, own_folder: Path) -> None:
    shutil.copy(EXAMPLES / card, own_folder / "helmets.toml")
    with Detector(own_folder / "helmets.onnx") as detector:
        assert detector.head.name == "yolox"
        assert detector.class_names == ("helmet", "vest", "person", "glove")


def test_a_head_in_a_folder_of_ones_own_is_found(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_package, "__path__", [*heads_package.__path__, str(EXAMPLES / "heads")])
    heads.cache_clear()
    try:
        with Detector(own_folder / "yolov7-tiny-end2end.onnx") as detector:
            assert detector.head.name == "yolov7_end2end"
            (dog,) = detector(np.zeros((320, 640, 3), np.uint8))
    finally:
        heads.cache_clear()
        sys.modules.pop("edge_sdk.models.heads.yolov7_end2end", None)
    # 640 x 320 lies in the middle of 640 x 640: 160 rows of padding above, and the scale is 1.
    assert dog.xyxy == (64.0, 0.0, 320.0, 320.0)


# --- the errors that the pages show ---------------------------------------------------------------


def test_models_md_shows_the_error_of_an_ambiguous_model(own_folder: Path) -> None:
    with pytest.raises(AmbiguousLayoutError) as caught:
        Detector(own_folder / "helmets.onnx")
    _is_shown_in("models.md", caught.value)


def test_models_md_shows_the_error_of_an_unknown_layout(own_folder: Path) -> None:
    with pytest.raises(UnknownLayoutError) as caught:
        Detector(own_folder / "odd.onnx")
    _is_shown_in("models.md", caught.value, until="name one with --head (")


def _is_shown_in(page: str, error: EdgeSdkError, until: str | None = None) -> None:
    message = str(error)
    if until is not None:
        message = message[: message.index(until) + len(until)]
    text = " ".join((DOCS / page).read_text().split())
    assert message in text, f"{page} does not show: {message}"


# --- the pages' own blocks ------------------------------------------------------------------------


def own_blocks(page: Path, languages: str) -> list[str]:
    """A page's blocks in these languages (`a|b`), at any indentation, that are not the text of an example."""
    blocks = re.findall(rf"^( *)```(?:{languages})\b[^\n]*\n(.*?)^\1```", SHOWN.sub("", page.read_text()), re.M | re.S)
    return [code for _, code in blocks]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_toml_block_of_a_page_is_an_example(page: Path) -> None:
    """Python that is no example is run as it stands; TOML cannot be."""
    for block in own_blocks(page, "toml"):
        pytest.fail(f"{page.relative_to(REPOSITORY)} has TOML that is no file of docs/examples/:\n{block}")


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if own_blocks(page, "python|py")],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_the_python_of_a_page_runs(page: Path, own_folder: Path, shared: Path) -> None:
    """Blocks that are no file run as they stand, in one program a page that has edge_sdk and a picture."""
    code = "\n".join(["import cv2, edge_sdk", "image_bgr = cv2.imread('photo.jpg')", *own_blocks(page, "python|py")])
    for written, stand_in in PAGE_STAND_INS.items():
        code = code.replace(written, stand_in)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=own_folder,
        env=_environment(shared),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}: {done.stderr}"
