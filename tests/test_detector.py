"""The detector: what it takes, what it chooses, what it refuses."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_sdk
from edge_sdk.backends.base import backends
from edge_sdk.errors import BackendError, UsageError
from edge_sdk.models import default


@pytest.fixture(scope="module")
def detector(yolox: Path):
    with edge_sdk.Detector(yolox, threads=1) as one:
        yield one


@pytest.fixture(scope="module")
def photo(bear: Path) -> np.ndarray:
    return cv2.imread(str(bear))


def test_a_bear_is_found_where_it_stands(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    (found,) = detector(photo)
    assert detector.class_names[found.class_id] == "bear"
    assert found.confidence > 0.9
    # Read off the photo: it fills the picture but for a strip at the top.
    assert np.allclose(found.xyxy, (5, 70, 586, 638), atol=15)


def test_boxes_stay_inside_the_picture(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    prepared = detector.prepare(photo[:300], detector.new_prepared())
    raw = detector.decode(detector.infer(prepared), prepared, clip=False)
    cut = detector.decode(detector.infer(prepared), prepared)
    assert (cut.xyxy >= 0).all()
    assert (cut.xyxy <= [586, 300, 586, 300]).all()
    assert len(cut) <= len(raw)


def test_prepare_infer_decode_in_a_row_is_the_call(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    prepared = detector.prepare(photo, detector.new_prepared())
    steps = detector.decode(detector.infer(prepared), prepared)
    whole = detector(photo)
    np.testing.assert_array_equal(steps.xyxy, whole.xyxy)
    np.testing.assert_array_equal(steps.confidence, whole.confidence)


def test_results_outlive_the_next_call(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    first = detector(photo)
    before = first.xyxy.copy()
    detector(photo[:, ::-1].copy())
    np.testing.assert_array_equal(first.xyxy, before)


def test_a_view_that_is_not_contiguous_is_taken(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    mirrored = detector(photo[:, ::-1])
    copied = detector(np.ascontiguousarray(photo[:, ::-1]))
    np.testing.assert_array_equal(mirrored.xyxy, copied.xyxy)


def test_many_threads_may_share_a_detector(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    pictures = [photo, photo[:, ::-1].copy(), photo[:400].copy(), cv2.resize(photo, (300, 200))]
    wanted = [detector(picture).xyxy for picture in pictures]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(5):
            if not np.array_equal(detector(pictures[index]).xyxy, wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module", params=["yolox_nano.onnx", "yolox_nano_only_int8_quantize.tflite"])
def engine(request: pytest.FixtureRequest, shared: Path):
    (backend,) = (one for one in backends().values() if Path(request.param).suffix in one.suffixes)
    if backend.missing() is not None:
        pytest.skip(str(backend.missing()))
    with edge_sdk.Detector(shared / "models/yolox_nano" / request.param, threads=1) as one:
        yield one


def test_outputs_stay_while_another_picture_is_inferred(engine: edge_sdk.Detector, photo: np.ndarray) -> None:
    wanted = [engine(picture) for picture in (photo, photo[:, ::-1])]
    turns = [engine.new_prepared() for _ in range(2)]
    for _ in range(3):
        outputs = []
        for picture, prepared in zip((photo, photo[:, ::-1]), turns, strict=True):
            outputs.append(engine.infer(engine.prepare(picture, prepared)))
        for found, prepared, want in zip(outputs, turns, wanted, strict=True):
            np.testing.assert_array_equal(engine.decode(found, prepared).xyxy, want.xyxy)


def test_the_three_may_overlap_in_threads(engine: edge_sdk.Detector, photo: np.ndarray) -> None:
    """Two cameras of different sizes, each with two pictures in turn: one is decoded while the other is inferred."""
    cameras = {"wide": [photo[:200], photo[100:300]], "tall": [photo[:, :200], photo[:, 200:400]]}
    wanted = {name: [engine(picture).xyxy for picture in pictures] for name, pictures in cameras.items()}
    wrong: list[str] = []

    def run(name: str) -> None:
        turns = [engine.new_prepared() for _ in range(2)]
        with ThreadPoolExecutor(1) as decoder:
            pending = []
            for number in range(8):
                prepared = engine.prepare(cameras[name][number % 2], turns[number % 2])
                with engine.lock:
                    outputs = engine.infer(prepared)
                pending.append(decoder.submit(engine.decode, outputs, prepared))
                if number:
                    got = pending[number - 1].result()
                    if not np.array_equal(got.xyxy, wanted[name][(number - 1) % 2]):
                        wrong.append(f"{name} {number}")

    threads = [threading.Thread(target=run, args=(name,)) for name in cameras]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_each_prepared_has_memory_of_its_own(detector: edge_sdk.Detector, photo: np.ndarray) -> None:
    one, other = detector.new_prepared(), detector.new_prepared()
    detector.prepare(photo, one)
    detector.prepare(photo[:, :100], other)
    assert one.preprocessor is not other.preprocessor
    (first,), (second,) = one.feeds.values(), other.feeds.values()
    assert not np.shares_memory(first, second)
    assert one.geometry.source_hw == photo.shape[:2]
    again = first.copy()
    detector.prepare(photo, one)
    np.testing.assert_array_equal(first, again)


def test_a_detection_allocates_nothing_large(engine: edge_sdk.Detector, photo: np.ndarray) -> None:
    for _ in range(3):
        engine(photo)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(2):
            engine(photo)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 64 * 1024  # the input has 2 MiB, the outputs 1.2


def test_one_class_by_name_or_id(yolox: Path, photo: np.ndarray) -> None:
    for classes in (["bear"], [21], ["21"], "bear"):
        with edge_sdk.Detector(yolox, classes=classes) as detector:
            assert len(detector(photo)) == 1
    with edge_sdk.Detector(yolox, classes=["dog", "cat"]) as detector:
        assert len(detector(photo)) == 0


def test_a_class_whose_name_is_a_number_is_asked_for_by_name(yolox: Path) -> None:
    with edge_sdk.Detector(yolox) as plain:
        card = replace(plain.card, classes=tuple(str(79 - number) for number in range(80)))
    with edge_sdk.Detector(yolox, card=card, classes=["7", 7]) as detector:
        assert detector.classes == [72, 7]


def test_a_higher_confidence_keeps_less(yolox: Path, photo: np.ndarray) -> None:
    counts = []
    for confidence in (0.0005, 0.25, 0.99):
        with edge_sdk.Detector(yolox, confidence=confidence) as detector:
            counts.append(len(detector(photo)))
    assert counts[0] > counts[1] > counts[2] == 0


def test_auto_says_what_it_chose_and_why(yolox: Path, shared: Path) -> None:
    with edge_sdk.Detector(yolox) as onnx:
        assert onnx.backend == "onnxruntime"
        assert "CPUExecutionProvider" in onnx.session.active
        assert "first of onnxruntime" in onnx.why
    with edge_sdk.Detector(shared / "models/yolox_nano/yolox_nano_float16_quantize.tflite") as lite:
        assert lite.backend == "tflite"


def test_both_engines_agree_on_the_bear(yolox: Path, shared: Path, photo: np.ndarray) -> None:
    boxes = []
    for model in (yolox, shared / "models/yolox_nano/yolox_nano_float16_quantize.tflite"):
        with edge_sdk.Detector(model) as detector:
            boxes.append(detector(photo).xyxy)
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1.0)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"confidence": 1.5}, "confidence must be between 0 and 1"),
        ({"iou": -1}, "iou must be between 0 and 1"),
        ({"threads": 0}, "threads must be 1 or more"),
        ({"backend": "tensorflow"}, "there is no backend 'tensorflow'; there are auto, onnxruntime, tflite"),
        ({"head": "nope"}, "there is no head 'nope'"),
        ({"classes": ["unicorn"]}, "no class 'unicorn'; it has person, bicycle"),
        ({"classes": ["²"]}, "no class '²'"),
        ({"classes": [80]}, "no class 80"),
        ({"options": {"turbo": "1"}}, "no option 'turbo'"),
        (
            {"backend": "onnxruntime:CPUExecutionProvider", "options": {"provider": "CUDAExecutionProvider"}},
            "names the provider already",
        ),
    ],
)
def test_an_argument_that_means_nothing_is_refused(yolox: Path, keywords: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        edge_sdk.Detector(yolox, **keywords)


def test_a_missing_model_is_a_file_not_found_error() -> None:
    with pytest.raises(FileNotFoundError):
        edge_sdk.Detector("nope.onnx")


def test_no_model_named_uses_the_embedded_default() -> None:
    with edge_sdk.Detector() as detector:
        assert detector.path == default.path()
        assert "person" in detector.class_names


def test_the_embedded_default_is_opened_by_the_backend_that_is_asked_for() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install ai-edge-litert")
    with edge_sdk.Detector(backend="tflite") as detector:
        assert detector.path == default.TFLITE
        assert "person" in detector.class_names


@pytest.mark.parametrize(
    "image",
    [
        "photo.jpg",
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        None,
    ],
    ids=["a path", "floats", "no rows", "two channels", "None"],
)
def test_what_is_no_picture_is_refused(detector: edge_sdk.Detector, image: object) -> None:
    with pytest.raises(UsageError, match="an image must"):
        detector(image)  # type: ignore[arg-type]


def test_a_closed_detector_says_so_and_closes_twice(yolox: Path, photo: np.ndarray) -> None:
    detector = edge_sdk.Detector(yolox)
    detector.close()
    detector.close()
    with pytest.raises(BackendError, match="closed"):
        detector(photo)


def test_its_repr_names_file_and_engine(detector: edge_sdk.Detector) -> None:
    assert repr(detector) == (
        "Detector('yolox_nano.onnx', backend='onnxruntime', active='CPUExecutionProvider, 1 thread')"
    )


def test_confidence_may_be_set_between_calls_to_a_fraction(yolox: Path, photo: np.ndarray) -> None:
    with edge_sdk.Detector(yolox) as detector:
        detector.confidence = 0.99
        assert len(detector(photo)) == 0
        with pytest.raises(UsageError, match="confidence must be between 0 and 1, not 5"):
            detector.confidence = 5


@pytest.mark.parametrize(("wanted", "meant"), [("persn", "person"), ("Bear", "bear"), ("hotdog", "hot dog")])
def test_a_class_that_is_nearly_right_is_suggested(yolox: Path, wanted: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        edge_sdk.Detector(yolox, classes=[wanted])


@pytest.mark.parametrize(
    ("image", "says"), [(None, "cv2.imread returns for a file"), ("photo.jpg", "read it with cv2.imread")]
)
def test_what_was_meant_by_no_picture_is_said(detector: edge_sdk.Detector, image: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        detector(image)  # type: ignore[arg-type]


def test_an_iou_that_would_do_nothing_is_refused(shared: Path) -> None:
    with pytest.raises(UsageError, match="iou has no effect: head 'ssd'"):
        edge_sdk.Detector(shared / "models/ssd_mobilenet_v1_quant/detect.tflite", iou=0.5)


def test_a_card_on_the_wrong_scale_is_warned_about(
    yolox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "card.toml").write_text("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]")
    with edge_sdk.Detector(yolox, card=tmp_path / "card.toml"):
        assert "looks like the 0..1 scale" in caplog.text
