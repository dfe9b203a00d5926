"""The training of the embedded detector: the network, what it inherits, its losses, resuming, the export.

PyTorch is no dependency of the tests: ``pip install torch==2.13.0`` (with its CPU index where the registry's build is
for CUDA), then these run too.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains the embedded detector: pip install torch==2.13.0")

import edge_sdk  # noqa: E402
from edge_sdk.sources.files import read_photo  # noqa: E402
from tests.tools.folder_of_modules import modules_of  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "train_default"
MODULES = ("gelan", "auxiliary", "inherit", "photos", "augment", "assign", "loss", "feed", "teacher", "training",
           "export", "judge", "look", "report")  # fmt: skip


@pytest.fixture(scope="module")
def tool() -> Iterator[SimpleNamespace]:
    with modules_of(FOLDER, MODULES) as modules:
        yield modules


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# --- the network ---------------------------------------------------------------------------------------------------


def test_it_has_at_most_a_million_parameters(tool) -> None:
    config = tool.training.Config.read(FOLDER / "config.toml")
    detector = tool.gelan.Detector(len(config.classes))
    assert 0.9e6 < sum(value.numel() for value in detector.parameters()) <= 1e6


def test_every_place_of_three_strides_speaks(tool) -> None:
    logits, bins = tool.gelan.Detector(5).eval()(torch.zeros(2, 3, 64, 96))
    centres, strides = tool.gelan.anchors(64, 96)
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert logits.shape == (2, places, 5)
    assert bins.shape == (2, places, 4, tool.gelan.BINS)
    assert centres[0].tolist() == [4, 4]
    assert centres[-1].tolist() == [80, 48]
    assert strides[-1].item() == 32


def test_a_side_is_the_expectation_over_its_bins(tool) -> None:
    bins = torch.full((1, 1, 4, tool.gelan.BINS), -50.0)
    bins[..., 2] = bins[..., 3] = 0.0  # two and a half strides each way
    boxes = tool.gelan.decode(bins, torch.tensor([[100.0, 60.0]]), torch.tensor([[8.0]]))
    assert boxes[0, 0].tolist() == pytest.approx([80, 40, 120, 80])


def test_the_auxiliary_branch_answers_for_the_same_places_and_teaches_the_backbone(tool) -> None:
    detector, auxiliary = tool.gelan.Detector(3), tool.auxiliary.Auxiliary(3)
    pictures = torch.rand(2, 3, 64, 64) * 255
    features = detector.backbone(pictures)
    logits, bins = auxiliary(pictures, features)
    own, _ = detector.head(detector.neck(features))
    assert logits.shape == own.shape
    (logits.sum() + bins.sum()).backward()
    assert detector.backbone.stage5.join.conv.weight.grad.abs().sum() > 0


# --- what it inherits ----------------------------------------------------------------------------------------------


def test_yolox_nano_is_carried_over_exactly_and_norms_are_put_back_unseen(tool, shared: Path, yolox: Path) -> None:
    photo = read_photo(next((shared / "data" / "coco_calib" / "images").glob("*.jpg")))
    config = tool.training.Config.read(FOLDER / "config.toml")
    # YOLOX's own size, and its own letterbox: to the top-left.
    scale = 416 / max(photo.shape[:2])
    picture = np.full((416, 416, 3), 114, np.uint8)
    small = tool.augment.cv2.resize(photo, None, fx=scale, fy=scale)
    picture[: small.shape[0], : small.shape[1]] = small[:416, :416]
    pictures = tool.training.as_input(torch.from_numpy(picture[None]))
    detector = tool.gelan.Detector(len(config.classes)).eval()
    tool.inherit.inherit(detector, config.classes, yolox, pictures)
    with torch.no_grad():
        logits, _ = detector(pictures)
    session = tool.teacher.onnxruntime.InferenceSession(str(yolox))
    rows = session.run(None, {"images": pictures.numpy()})[0][0].astype(np.float64)
    for name in ("person", "dog", "bottle"):
        known = 5 + tool.teacher.COCO_80.index(name)
        moderate = (np.abs(rows[:, [4, known]] - 0.5) < 0.4999).all(axis=1)
        assert moderate.sum() > 50
        objects, kinds = rows[moderate][:, [4, known]].T
        expected = np.log(objects / (1 - objects)) + np.log(kinds / (1 - kinds))
        found = logits[0, :, config.classes.index(name)].numpy()
        assert np.abs(found[moderate] - expected).max() < 0.02
    norm = detector.backbone.stage4.join.norm
    assert norm.running_var.std() > 0  # it has been measured


def test_a_file_that_is_not_yolox_nano_is_refused(tool, shared: Path) -> None:
    other = shared / "models" / "fastestdet" / "FastestDet.onnx"
    with pytest.raises(ValueError, match="teacher"):
        tool.inherit.inherit(tool.gelan.Detector(2), ["person", "face"], other, torch.zeros(1, 3, 64, 64))


def test_the_teacher_scores_the_students_places(tool, yolox: Path) -> None:
    teacher = tool.teacher.Teacher(yolox, ["face", "person", "dog"], 64, 96, threads=1)
    scores = teacher(np.full((2, 64, 96, 3), 114, np.uint8))
    assert teacher.known == [1, 2]  # COCO has no faces
    assert scores.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 2)
    assert 0 <= scores.min() <= scores.max() < 0.2


# --- assignment and losses -----------------------------------------------------------------------------------------


def assigned(tool, boxes: list[list[float]], labels: list[int]):
    centres, _ = tool.gelan.anchors(64, 64)
    predicted = torch.cat([centres - 10, centres + 10], dim=1)[None]
    scores = torch.full((1, len(centres), 2), 0.5)
    true = torch.tensor([boxes]).reshape(1, -1, 4)
    real = torch.ones(1, len(boxes), dtype=torch.bool)
    return centres, tool.assign.assign(scores, predicted, centres, true, torch.tensor([labels]).long(), real)


def test_places_inside_a_box_answer_for_it_and_the_best_is_told_its_iou(tool) -> None:
    centres, given = assigned(tool, [[16.0, 16.0, 36.0, 36.0]], [1])
    chosen = given.positive[0]
    assert 1 <= chosen.sum() <= tool.assign.PLACES
    assert ((centres[chosen] > 16) & (centres[chosen] < 36)).all()
    assert given.labels[0][chosen].unique().tolist() == [1]
    overlap = tool.assign.iou(given.boxes[0][chosen], torch.cat([centres - 10, centres + 10], dim=1)[chosen])
    assert given.quality[0].max().item() == pytest.approx(overlap.max().item(), abs=1e-5)
    assert given.quality[0][~chosen].max() == 0


def test_without_boxes_nothing_is_assigned(tool) -> None:
    _, given = assigned(tool, [], [])
    assert not given.positive.any()


def test_a_box_smaller_than_a_cell_is_answered_for(tool) -> None:
    _, given = assigned(tool, [[23.0, 23.0, 25.0, 25.0]], [0])  # between four places
    assert given.positive.any()


def test_a_place_between_two_boxes_answers_for_one(tool) -> None:
    _, given = assigned(tool, [[10.0, 10.0, 40.0, 40.0], [20.0, 20.0, 50.0, 50.0]], [0, 1])
    assert set(given.labels[0][given.positive[0]].tolist()) == {0, 1}


def test_what_is_hit_exactly_costs_nothing_and_what_is_missed_costs(tool) -> None:
    box = torch.tensor([[10.0, 10.0, 40.0, 50.0]])
    assert tool.loss.complete_iou(box, box).item() == pytest.approx(1, abs=1e-5)
    apart = [tool.loss.complete_iou(box + shift, box).item() for shift in (2.0, 5.0, 200.0)]
    assert 1 > apart[0] > apart[1] > 0 > apart[2]


def test_the_two_bins_beside_a_side_share_it(tool) -> None:
    bins = torch.full((1, 4, tool.gelan.BINS), -50.0)
    bins[..., 2] = bins[..., 3] = 0.0
    right = tool.loss.distribution_focal(bins, torch.full((1, 4), 2.5))
    wrong = tool.loss.distribution_focal(bins, torch.full((1, 4), 2.0))
    assert right.mean().item() == pytest.approx(np.log(2), abs=1e-4)
    assert tool.loss.distribution_focal(bins, torch.full((1, 4), 5.0)).min() > 10
    assert wrong.mean().item() == pytest.approx(np.log(2), abs=1e-4)  # all of it on one bin, that has half


def test_places_of_ignored_regions_cost_nothing(tool) -> None:
    centres, strides = tool.gelan.anchors(64, 64)
    logits = torch.full((1, len(centres), 2), 3.0)  # it sees objects everywhere
    bins = torch.zeros(1, len(centres), 4, tool.gelan.BINS)

    def cost(weights):
        none = torch.zeros(1, 0, 4), torch.zeros(1, 0).long(), torch.zeros(1, 0).bool()
        return tool.loss.detection_loss(logits, bins, centres, strides, tool.loss.Truth(*none, weights)).total.item()

    everywhere = torch.ones(1, len(centres), 2)
    assert cost(everywhere) > 100
    assert cost(everywhere * 0) == 0


def test_a_student_that_sees_what_the_teacher_sees_learns_nothing_from_it(tool) -> None:
    logits = torch.randn(2, 9, 3)
    everywhere = torch.ones_like(logits)
    assert tool.loss.teaching_loss(logits, logits.sigmoid(), everywhere).item() == pytest.approx(0, abs=1e-9)
    assert tool.loss.teaching_loss(logits, 1 - logits.sigmoid(), everywhere).item() > 0.01
    assert tool.loss.teaching_loss(logits, 1 - logits.sigmoid(), everywhere * 0).item() == 0


def test_a_place_has_the_weights_of_the_cell_in_which_its_centre_lies(tool) -> None:
    cells = np.random.default_rng(0).random((8, 12, 2), np.float32)
    found = tool.feed.at_places(cells)
    centres, _ = tool.gelan.anchors(64, 96)
    columns, rows = (centres.numpy() // tool.augment.CELL).astype(int).T
    assert np.array_equal(found, cells[rows, columns])


def test_labels_of_a_batch_are_padded_and_marked(tool) -> None:
    def sample(count: int):
        boxes = np.full((count, 4), 7, np.float32)
        picture, weights = np.zeros((64, 64, 3), np.uint8), np.ones((8, 8, 2), np.float32)
        return tool.augment.Sample(picture, boxes, np.ones(count, np.int64), weights)

    batch = tool.feed.collate([sample(2), sample(0), sample(3)])
    assert batch.pictures.shape == (3, 64, 64, 3)
    assert batch.truth.real.sum(dim=1).tolist() == [2, 0, 3]
    assert batch.truth.boxes.shape == (3, 3, 4)
    assert batch.truth.weights.shape == (3, 84, 2)


# --- the run -------------------------------------------------------------------------------------------------------

TINY: dict[str, object] = {
    "shares": {},
    "height": 64,
    "width": 64,
    "batch": 2,
    "steps": 6,
    "warmup": 2,
    "inherit": False,
    "teaching": 0.0,
}


@pytest.fixture
def few(tool, shared: Path):
    photos = tool.photos.read(shared / "data" / "people", tool.training.Config.read(FOLDER / "config.toml").classes)
    return [photo for photo in photos if photo.split == "fit"][:12]


def weights_of(run) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in run.average.state_dict().items()}


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tool, few, tmp_path: Path) -> None:
    config = tool.training.Config.read(FOLDER / "config.toml", TINY)
    whole = tool.training.Run(config, few, None, tmp_path / "whole", workers=0)
    whole(2)
    broken = tool.training.Run(config, few, None, tmp_path / "broken", workers=0)

    def kill(run) -> dict:
        if run.step == 4:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        broken(2, kill)
    resumed = tool.training.Run(config, few, None, tmp_path / "broken", workers=0)
    assert resumed.step == 4
    resumed(2)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]


def test_without_an_inheritance_every_layer_learns_from_the_first_step(tool, few, tmp_path: Path) -> None:
    config = tool.training.Config.read(FOLDER / "config.toml", {**TINY, "steps": 1, "held": 1.0})
    run = tool.training.Run(config, few, None, tmp_path, workers=0)
    before = run.detector.backbone.entry[0].conv.weight.detach().clone()
    run(1)
    assert not torch.equal(before, run.detector.backbone.entry[0].conv.weight)


def test_what_was_inherited_is_held_while_the_rest_settles(tool, few, yolox: Path, tmp_path: Path) -> None:
    changes = {**TINY, "steps": 1, "inherit": True, "teaching": 1.0, "held": 1.0}
    run = tool.training.Run(tool.training.Config.read(FOLDER / "config.toml", changes), few, yolox, tmp_path, workers=0)
    entry = run.detector.backbone.entry[0]
    before = entry.conv.weight.detach().clone(), entry.norm.running_mean.clone()
    deeper = run.detector.backbone.stage4.join.conv.weight.detach().clone()
    run(1)
    assert torch.equal(before[0], entry.conv.weight)
    assert torch.equal(before[1], entry.norm.running_mean)
    assert not torch.equal(deeper, run.detector.backbone.stage4.join.conv.weight)
    assert "teaching" in json.loads((tmp_path / "log.jsonl").read_text())


def test_a_folder_of_another_recipe_is_left_alone(tool, few, tmp_path: Path) -> None:
    tool.training.Run(tool.training.Config.read(FOLDER / "config.toml", TINY), few, None, tmp_path, workers=0)(6)
    other = tool.training.Config.read(FOLDER / "config.toml", {**TINY, "seed": 2})
    with pytest.raises(ValueError, match="of another recipe"):
        tool.training.Run(other, few, None, tmp_path, workers=0)
    same = tool.training.Config.read(FOLDER / "config.toml", TINY)
    with pytest.raises(ValueError, match="other photos"):
        tool.training.Run(same, few[:-1], None, tmp_path, workers=0)


def test_a_recipe_that_needs_a_teacher_says_so(tool, few, tmp_path: Path) -> None:
    config = tool.training.Config.read(FOLDER / "config.toml")
    with pytest.raises(ValueError, match="needs the teacher's file"):
        tool.training.Run(config, few, None, tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stepz": 3}, "stepz"),
        ({"height": 250}, "32 must divide"),
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"mosaic": 2}, "mosaic must be between 0 and 1"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(tool, changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tool.training.Config.read(FOLDER / "config.toml", changes)


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine(tool) -> None:
    config = tool.training.Config.read(FOLDER / "config.toml", {"steps": 100, "warmup": 10, "rate": 1.0})
    rates = [config.rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


# --- the file ------------------------------------------------------------------------------------------------------


def check_export(tool, detector, classes, height: int, width: int, out: Path, photos: list[Path]) -> None:
    """The file gives what PyTorch gives: scores within 1e-4, boxes within 0.05 px."""
    session = tool.teacher.onnxruntime.InferenceSession(str(out))
    for path in photos:
        picture = tool.augment.cv2.resize(read_photo(path), (width, height))[None]
        boxes, scores = session.run(["boxes", "scores"], {"image": picture})
        with torch.no_grad():
            wanted_boxes, wanted_scores = tool.export.Exported(detector, height, width).eval()(
                torch.from_numpy(picture)
            )
        assert np.abs(scores - wanted_scores.numpy()).max() < 1e-4
        assert np.abs(boxes - wanted_boxes.numpy()).max() < 0.05


def test_the_file_gives_what_pytorch_gives_and_says_how_it_is_fed(tool, shared: Path, yolox: Path, tmp_path) -> None:
    classes = ["person", "face", "dog"]
    detector = tool.gelan.Detector(3)
    photos = sorted((shared / "data" / "coco_calib" / "images").glob("*.jpg"))[:4]
    pictures = np.stack([tool.augment.cv2.resize(read_photo(path), (96, 64)) for path in photos])
    tool.inherit.inherit(detector, classes, yolox, tool.training.as_input(torch.from_numpy(pictures)))
    detector.eval()
    tool.export.narrowed(detector, classes, ["dog", "person"])
    out = tmp_path / "d.onnx"
    tool.export.export(detector, ["dog", "person"], 64, 96, out, {"note": "a test"})
    check_export(tool, detector, classes, 64, 96, out, photos)
    model = onnx.load(str(out))
    assert model.opset_import[0].version >= 17
    assert {prop.key for prop in model.metadata_props} >= {"edge_sdk.card", "licence", "note"}
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    with edge_sdk.Detector(out) as opened:
        assert opened.class_names == ("dog", "person")
        assert opened.card.head == "yolo_nas"
        assert opened.card.input_hw == (64, 96)
        opened(read_photo(photos[0]))


# --- from scratch, on the real photos ------------------------------------------------------------------------------


def command(*words: object) -> list[str]:
    return [sys.executable, str(FOLDER), *map(str, words)]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_training_from_scratch_learns_resumes_after_a_kill_and_exports(tool, shared: Path, tmp_path: Path) -> None:
    """The command itself, random weights, a few minutes: the loss falls, the checkpoint holds, the file loads."""
    run = tmp_path / "run"
    changes = {"inherit": "false", "teaching": "0.0", "steps": 60, "warmup": 10, "batch": 8}
    train = command("train", "--photos", shared / "data" / "people", "--out", run, "--every", 20)
    for name, value in changes.items():
        train += ["--set", f"{name}={value}"]
    first = subprocess.Popen(train, stderr=(tmp_path / "said").open("w"))
    held = run / "checkpoint.pt"
    began = time.monotonic()
    while not (held.exists() and (run / "log.jsonl").exists()) and time.monotonic() - began < 600:
        assert first.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    at = torch.load(held, weights_only=True)["step"]
    assert at in (20, 40)
    subprocess.run(train, check=True, capture_output=True, timeout=900)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 60
    assert sum(line["step"] > at for line in lines) == (60 - at) // 20
    assert lines[-1]["scores"] < 0.8 * lines[0]["scores"]  # means of 20 steps each
    out = tmp_path / "scratch.onnx"
    subprocess.run(command("export", "--run", run, "--out", out), check=True, capture_output=True, timeout=300)
    config, detector, state = tool.training.trained(run)
    assert state["step"] == 60
    photos = sorted((shared / "data" / "coco_calib" / "images").glob("*.jpg"))[:8]
    check_export(tool, detector, config.classes, config.height, config.width, out, photos)
    with edge_sdk.Detector(out) as opened:
        assert opened.class_names == config.classes
