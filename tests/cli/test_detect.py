"""``edge-sdk detect``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_sdk


def test_a_photo_of_a_bear_prints_a_bear(edge_sdk_command, yolox: Path, bear: Path) -> None:
    ran = edge_sdk_command("detect", bear, "--model", yolox)
    assert ran.code == 0
    assert "bear 0.9" in ran.out
    assert "1 captured, 1 processed, dropped: none" in ran.err


def test_json_is_one_object_a_frame_with_the_keys_of_the_design(
    edge_sdk_command, yolox: Path, highway: Path, no_sensor: Path
) -> None:
    ran = edge_sdk_command("detect", highway, "--model", yolox, "--frames", 3, "--json")
    assert ran.code == 0
    *records, last = ran.lines
    assert [record["frame"] for record in records] == [0, 1, 2]
    first = records[0]
    assert {"frame", "captured_ns", "detections", "timing", "power"} <= set(first)
    assert first["power"] is None
    cars = [found for found in first["detections"] if found["class_name"] == "car"]
    assert len(cars) == 2
    assert set(cars[0]) == {"xyxy", "confidence", "class_id", "class_name", "track_id"}
    stages = {"wait_ms", "preprocess_ms", "infer_ms", "decode_ms", "total_ms"}
    assert set(first["timing"]) == stages
    stats = last["stats"]
    assert stats["captured"] == stats["processed"] + sum(stats["dropped"].values()) + stats["in_flight"]
    assert stats["processed"] == 3
    assert set(stats["percentiles"]) == stages
    assert set(stats["percentiles"]["infer_ms"]) == {"p50", "p90", "p99", "max"}
    assert stats["energy"] is None
    assert "no energy counter" in stats["power_reason"]
    assert "power: not measured: no energy counter" in ran.err


def test_power_is_in_every_record_and_its_energy_in_the_totals(
    edge_sdk_command, yolox: Path, highway: Path, jetson: Path
) -> None:
    ran = edge_sdk_command("detect", highway, "--model", yolox, "--json")
    *records, last = ran.lines
    assert {(one["power"]["value"], one["power"]["method"]) for one in records} == {(4.785, "sensor_total")}
    assert last["stats"]["energy"]["mean_w"] == 4.785
    assert "power: 4.78 W in the mean, " in ran.err
    assert "mJ a result with idle power (sensor_total)" in ran.err


def test_power_is_not_read_where_nobody_wants_it(edge_sdk_command, yolox: Path, bear: Path, jetson: Path) -> None:
    ran = edge_sdk_command("detect", bear, "--model", yolox, "--json", "--no-power")
    assert ran.lines[0]["power"] is None
    assert "power" not in ran.err
    wrong = edge_sdk_command("detect", bear, "--model", yolox, "--no-power", "--sensor", "rapl")
    assert wrong.code == 2
    assert "--sensor says what to read, and --no-power to read nothing" in wrong.err


def test_a_sensor_that_is_named_and_not_there_is_an_error(
    edge_sdk_command, yolox: Path, bear: Path, no_sensor: Path
) -> None:
    ran = edge_sdk_command("detect", bear, "--model", yolox, "--sensor", "rapl")
    assert ran.code == 1
    assert "no energy counter" in ran.err


def test_jsonl_goes_to_a_file_while_people_read_the_lines(
    edge_sdk_command, yolox: Path, bear: Path, tmp_path: Path
) -> None:
    ran = edge_sdk_command("detect", bear, "-m", yolox, "--jsonl", tmp_path / "out.jsonl")
    assert ran.code == 0
    assert "bear" in ran.out
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1


def test_json_on_standard_output_and_in_a_file(edge_sdk_command, yolox: Path, bear: Path, tmp_path: Path) -> None:
    ran = edge_sdk_command("detect", bear, "-m", yolox, "--json", "--jsonl", tmp_path / "out.jsonl")
    assert ran.code == 0
    assert (tmp_path / "out.jsonl").read_text() == ran.out.splitlines(keepends=True)[0]
    assert len(ran.lines) == 2
    assert len(edge_sdk_command("detect", bear, "-m", yolox, "--json", "--jsonl", "-").lines) == 2
    assert len(edge_sdk_command("detect", bear, "-m", yolox, "--jsonl", "-").lines) == 1


def test_a_run_that_is_refused_leaves_the_results_of_the_last_one(
    edge_sdk_command, yolox: Path, bear: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.jsonl").write_text("of the last run\n")
    words = ("detect", bear, "-m", yolox, "--jsonl", tmp_path / "out.jsonl", "--save", tmp_path / "out.mov")
    assert edge_sdk_command(*words).code == 1
    assert (tmp_path / "out.jsonl").read_text() == "of the last run\n"


def test_a_results_file_that_cannot_be_written_leaves_no_half_video(
    edge_sdk_command, yolox: Path, highway: Path, tmp_path: Path
) -> None:
    words = ("detect", highway, "-m", yolox, "--jsonl", tmp_path / "none/out.jsonl", "--save", tmp_path / "out.mp4")
    assert edge_sdk_command(*words).code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_photo_whose_name_is_no_text_is_detected_in(yolox: Path, bear: Path, tmp_path: Path) -> None:
    """A name from an old disk, in Latin-1."""
    photo = os.fsencode(tmp_path) + b"/b\xe4r.jpg"
    shutil.copy(bear, photo)
    command = [sys.executable, "-m", "edge_sdk", "detect", photo, "--model", yolox]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as in most languages but C
    ran = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert b"bear 0.9" in ran.stdout


def test_a_clip_is_saved_with_boxes_in_it(edge_sdk_command, yolox: Path, highway: Path, tmp_path: Path) -> None:
    saved = tmp_path / "out.mp4"
    ran = edge_sdk_command("detect", highway, "-m", yolox, "--frames", 5, "--save", saved)
    assert ran.code == 0
    assert f"written: {saved}" in ran.err
    clip, original = cv2.VideoCapture(str(saved)), cv2.VideoCapture(str(highway))
    assert int(clip.get(cv2.CAP_PROP_FRAME_COUNT)) == 5
    drawn, plain = clip.read()[1].astype(int), original.read()[1].astype(int)
    changed = np.argwhere(np.abs(drawn - plain).max(axis=2) > 100)
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    # The two cars stand in this part of the first frame; nothing is drawn elsewhere.
    assert 380 < top < bottom < 520
    assert 790 < left < right < 1230


def test_one_class_can_be_asked_for_by_name(edge_sdk_command, yolox: Path, bear: Path) -> None:
    ran = edge_sdk_command("detect", bear, "-m", yolox, "--class", "person", "--json")
    assert ran.lines[0]["detections"] == []


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_asked_to_stop_keeps_what_was_recorded(yolox: Path, tmp_path: Path, stop: int, code: int) -> None:
    words = ["detect", "demo", "-m", yolox, "--save", "out.mp4", "--jsonl", "out.jsonl"]
    command = [sys.executable, "-m", "edge_sdk", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        lines, until = tmp_path / "out.jsonl", time.monotonic() + 60
        while not (lines.exists() and lines.read_bytes().count(b"\n") >= 3) and time.monotonic() < until:
            time.sleep(0.05)
        running.send_signal(stop)
        assert running.wait(60) == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.mp4"]
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) >= 2


def test_what_is_chosen_is_said_when_asked(edge_sdk_command, yolox: Path, bear: Path) -> None:
    ran = edge_sdk_command("--verbose", "detect", bear, "-m", yolox)
    assert "CPUExecutionProvider" in ran.err
    assert "head yolox" in ran.err


# --- bad input: one line, how to mend it, exit code 1 or 2 ----------------------------------------


@pytest.fixture
def failing(edge_sdk_command, yolox: Path, bear: Path):
    """Runs detect with something wrong in it and returns its one line."""

    def run(*words: object, source: object = bear, model: object = yolox, code: int = 1) -> str:
        ran = edge_sdk_command("detect", source, "--model", model, *words)
        assert ran.code == code, ran
        assert ran.out == ""
        told = [line for line in ran.err.splitlines() if not line.startswith("INFO: ")]  # TFLite greets on its own
        assert len(told) == 1, told
        assert told[0].startswith("edge-sdk: ")
        return told[0]

    return run


def test_a_missing_file(failing) -> None:
    assert "no such file" in failing(source="missing.jpg")


def test_a_folder_without_photos(failing, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    assert "photos end in" in failing(source=tmp_path)


def test_a_missing_model(failing) -> None:
    assert "models list" in failing(model="nope.onnx")


def test_a_truncated_onnx_file(failing, yolox: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(yolox.read_bytes()[:100_000])
    assert "not a valid ONNX file" in failing(model=half)


def test_a_text_file_named_onnx(failing, tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    assert "it is a text file" in failing(model=text)


def test_a_tflite_file_named_onnx(failing, shared: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "model.onnx"
    shutil.copy(shared / "models/vww_96/vww_96_float.tflite", wrong)
    assert "it looks like a .tflite file" in failing(model=wrong)


def test_an_onnx_file_named_tflite(failing, yolox: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "model.tflite"
    shutil.copy(yolox, wrong)
    assert "not a TFLite file" in failing(model=wrong)


def test_an_empty_model_file(failing, tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    assert "it is empty" in failing(model=empty)


def test_a_suffix_that_no_backend_opens(failing, tmp_path: Path) -> None:
    other = tmp_path / "model.pt"
    other.write_bytes(b"PK")
    assert "no backend opens '.pt' files" in failing(model=other)


def test_an_unknown_head(failing) -> None:
    assert "there is no head 'yolo99'; there are " in failing("--head", "yolo99", code=2)


def test_a_head_that_does_not_fit(failing) -> None:
    assert "does not read" in failing("--head", "yolov8")


def test_a_card_with_the_wrong_number_of_classes(failing, tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    card.write_text('classes = ["bear", "deer"]')
    assert "names 2 classes, but the model's outputs hold 80" in failing("--card", card)


def test_a_model_that_is_no_detector(failing, shared: Path) -> None:
    assert "no head recognises" in failing(model=shared / "models/vww_96/vww_96_float.tflite")


def test_a_camera_index_that_is_not_there(failing) -> None:
    assert "/dev/video77" in failing(source="77")


def test_no_camera_at_all(edge_sdk_command, yolox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))
    ran = edge_sdk_command("detect", "--model", yolox)
    assert ran.code == 1
    assert "no camera found on this machine" in ran.err


def test_an_rtsp_server_that_refuses_and_the_password_stays_secret(failing) -> None:
    line = failing(source="rtsp://keeper:secret@127.0.0.1:9/door")
    assert "refuses connections" in line
    assert "secret" not in line


def test_an_rtsp_server_that_never_answers_fails_within_five_seconds(failing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []
        thread = threading.Thread(target=lambda: taken.append(server.accept()[0]), daemon=True)
        thread.start()
        began = time.monotonic()
        failing(source=f"rtsp://127.0.0.1:{server.getsockname()[1]}/door")
        assert time.monotonic() - began < 8  # five, and what a busy machine adds
        for connection in taken:
            connection.close()


def test_a_video_that_cannot_be_read(yolox: Path, highway: Path, tmp_path: Path) -> None:
    """In a process of its own: FFmpeg reads once how much it may print."""
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(highway.read_bytes()[:50_000])
    command = [sys.executable, "-m", "edge_sdk", "detect", cut, "--model", yolox]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert "cut.mp4: no frame can be decoded" in line


def test_a_corrupt_photo_in_a_folder_is_reported_skipped_and_counted(
    edge_sdk_command, yolox: Path, bear: Path, tmp_path: Path
) -> None:
    shutil.copy(bear, tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(bear.read_bytes()[:3000])
    ran = edge_sdk_command("detect", tmp_path, "-m", yolox)
    assert ran.code == 0
    assert "b.jpg" in ran.err
    assert "2 captured, 1 processed, dropped: 1 decode error" in ran.err


def test_a_folder_of_nothing_but_corrupt_photos_fails(edge_sdk_command, yolox: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 not a photo")
    ran = edge_sdk_command("detect", tmp_path, "-m", yolox)
    assert ran.code == 1
    assert "not one of 1 pictures could be read" in ran.err


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3)])
def test_an_absurdly_small_photo_gives_no_boxes_and_no_error(
    edge_sdk_command, yolox: Path, tmp_path: Path, shape
) -> None:
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros(shape, np.uint8))
    ran = edge_sdk_command("detect", tmp_path / "tiny.png", "-m", yolox, "--json")
    assert ran.code == 0
    assert ran.lines[0]["detections"] == []


@pytest.mark.parametrize("conversion", [cv2.COLOR_BGR2GRAY, cv2.COLOR_BGR2BGRA], ids=["grey", "rgba"])
def test_grey_and_transparent_photos_are_detected_in(
    edge_sdk_command, yolox: Path, bear: Path, tmp_path: Path, conversion: int
) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.cvtColor(cv2.imread(str(bear)), conversion))
    ran = edge_sdk_command("detect", tmp_path / "photo.png", "-m", yolox, "--json")
    assert [found["class_name"] for found in ran.lines[0]["detections"]] == ["bear"]


def test_a_provider_that_is_not_there_is_refused_with_what_is(failing) -> None:
    line = failing("--backend", "onnxruntime:CUDAExecutionProvider")
    assert "CUDAExecutionProvider" in line
    assert "CPUExecutionProvider" in line


def test_an_option_that_is_no_pair(failing) -> None:
    assert "KEY=VALUE" in failing("--option", "fast", code=2)


def test_a_class_the_model_does_not_have(failing) -> None:
    assert "the model has no class 'bears'" in failing("--class", "bears", code=2)


def test_a_folder_that_cannot_be_written(failing, tmp_path: Path) -> None:
    assert "cannot be written" in failing("--save", tmp_path / "none/out.mp4")


def test_an_unknown_flag_is_wrong_usage(edge_sdk_command) -> None:
    assert edge_sdk_command("detect", "--nope").code == 2


def test_debug_shows_the_traceback(yolox: Path) -> None:
    from edge_sdk.cli import main
    from edge_sdk.errors import SourceNotFoundError

    with pytest.raises(SourceNotFoundError):
        main(["detect", "missing.jpg", "--model", str(yolox), "--debug"])


def test_one_photo_cannot_hold_a_whole_clip(failing, highway: Path, tmp_path: Path) -> None:
    line = failing("--save", tmp_path / "out.jpg", source=highway, code=2)
    assert "the source has 38 pictures; name a video (.mp4) or a folder" in line


def test_verbose_may_stand_at_the_end(edge_sdk_command, yolox: Path, bear: Path) -> None:
    assert "head yolox" in edge_sdk_command("detect", bear, "-m", yolox, "-v").err


def test_nothing_that_is_read_is_written_over(
    edge_sdk_command, yolox: Path, bear: Path, highway: Path, tmp_path: Path
) -> None:
    photo, clip, model = (Path(shutil.copy(one, tmp_path)) for one in (bear, highway, yolox))
    for words, kept in (
        (("detect", photo, "-m", yolox, "--save", photo), photo),
        (("detect", clip, "-m", yolox, "--jsonl", clip), clip),
        (("detect", bear, "-m", model, "--jsonl", model), model),
    ):
        before = kept.read_bytes()
        ran = edge_sdk_command(*words)
        assert ran.code == 2
        assert "is what is read, and would be lost" in ran.err
        assert kept.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_keeps_its_clip_and_says_what_it_did(yolox: Path, tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "edge_sdk", "detect", "demo", "-m", yolox, "--save", tmp_path / "live.mp4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "processed" in err
    assert f"written: {tmp_path / 'live.mp4'}" in err
    assert err.splitlines()[-1] == "interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["live.mp4"]
    assert cv2.VideoCapture(str(tmp_path / "live.mp4")).read()[0]


def test_closed_standard_output_is_no_internal_error(yolox: Path, bear: Path) -> None:
    command = f"{sys.executable} -m edge_sdk detect {bear} -m {yolox} --json >&-"
    ran = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert "internal error" not in ran.stderr


def test_a_full_disk_under_standard_output_is_said(edge_sdk_command) -> None:
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m edge_sdk devices --json > /dev/full"],
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr
    assert "internal error" not in ran.stderr


def test_coco_results_of_a_folder_are_written_at_its_end_and_not_before(
    edge_sdk_command, yolox: Path, bear: Path, highway: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.jpg").write_bytes(bear.read_bytes())
    found = tmp_path / "found.json"
    assert edge_sdk_command("detect", photos, "-m", yolox, "--coco", found, "--frames", 2).code == 0
    assert not found.exists()
    ran = edge_sdk_command("detect", photos, "-m", yolox, "--coco", found)
    assert ran.code == 0
    assert "2 of 4 photos were finished before; going on" in ran.err
    assert "2 captured, 2 processed" in ran.err
    results = json.loads(found.read_text())
    assert [one["image_id"] for one in results] == [1, 2, 3, 4]
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "found.json", "found.images.json"}


def test_a_continued_run_does_not_replace_results_that_it_would_not_make_again(
    edge_sdk_command, yolox: Path, bear: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.jpg").write_bytes(bear.read_bytes())
    found, lines = tmp_path / "found.json", tmp_path / "out.jsonl"
    words = ("detect", photos, "-m", yolox, "--coco", found, "--jsonl", lines)
    assert edge_sdk_command(*words, "--frames", 1).code == 0
    before = lines.read_text()
    ran = edge_sdk_command(*words)
    assert ran.code == 2
    assert "would lose theirs" in ran.err
    assert lines.read_text() == before


def test_people_are_tracked_and_counted(edge_sdk_command, yolox: Path, shared: Path) -> None:
    clip = shared / "data/videos/one-by-one-person-detection.mp4"
    words = ("--class", "person", "--track", "--zone", "room=0,0 1,0 1,1 0,1", "--line", "door=0.5,0 0.5,1")
    ran = edge_sdk_command("detect", clip, "-m", yolox, "--frames", 70, "--json", *words)
    assert ran.code == 0
    last = ran.lines[-2]
    assert set(last["counts"]) == {"room", "door in", "door out"}
    assert last["counts"]["room"] == len(last["detections"]) == 1
    assert last["detections"][0]["track_id"] == 1
    text = edge_sdk_command("detect", clip, "-m", yolox, "--frames", 70, *words).out.splitlines()[-1]
    assert "person #1 0." in text
    assert text.endswith("| room 1, door in 1, door out 0")


def test_lines_without_tracking_are_wrong_usage(edge_sdk_command, yolox: Path, bear: Path) -> None:
    ran = edge_sdk_command("detect", bear, "-m", yolox, "--line", "door=0.5,0 0.5,1")
    assert ran.code == 2
    assert "add track=True (--track)" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--blur-faces"], "has no class 'face'"),
        (["--face-model", "yunet.onnx"], "--face-model goes with --blur-faces"),
        (["--no-reconnect", "--give-up", "5"], "--give-up says how long to try again"),
        (["--mode", "turbo"], "mode is latency, throughput, eco, not 'turbo'"),
        (["--policy", "some"], "policy is auto, newest, every, not 'some'"),
        (["--http", "0.0.0.0:0"], "token"),
        (["--mqtt", "http://broker"], "mqtt://"),
        (["--webhook", "ftp://x"], "http"),
        (["--zone", "a=1,1"], "corners"),
    ],
)
def test_options_that_mean_nothing_together_are_wrong_usage(
    edge_sdk_command, yolox: Path, bear: Path, words: list[str], said: str
) -> None:
    ran = edge_sdk_command("detect", bear, "-m", yolox, *words)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_faces_are_hidden_in_what_is_saved(edge_sdk_command, yolox: Path, shared: Path, tmp_path: Path) -> None:
    yunet = shared / "models/yunet/yunet_n_640_640.onnx"
    clear, hidden = tmp_path / "clear.mp4", tmp_path / "hidden.mp4"
    words = ("detect", "demo", "-m", yolox, "--frames", 8, "--class", "person")
    assert edge_sdk_command(*words, "--save", clear).code == 0
    assert edge_sdk_command(*words, "--save", hidden, "--blur-faces", "--face-model", yunet).code == 0
    with edge_sdk.Detector(yunet, confidence=0.7) as faces:
        seen = [
            sum(len(result.detections) for result in edge_sdk.Camera(clip, faces).detect()) for clip in (clear, hidden)
        ]
    assert seen[0] > 0
    assert seen[1] == 0
