"""Labelled photos in three layouts, made from the same photos, and what is wrong with broken ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk.datasets import Dataset, load
from edge_sdk.errors import DatasetError

CLASSES = ("cat", "hot dog")
SIZES = {"a": (40, 60), "b": (100, 50), "c": (32, 32)}  # height, width
# Class and left, top, right, bottom in whole pixels.
BOXES = {"a": [(1, (0, 0, 60, 40)), (0, (10, 5, 30, 25))], "b": [(0, (1, 2, 3, 4))], "c": []}


def write_photos(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, hw in SIZES.items():
        cv2.imwrite(str(folder / f"{name}.jpg"), np.full((*hw, 3), 90, np.uint8))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    home = tmp_path / "coco"
    write_photos(home / "images")
    ids = (7, 3)  # category ids in neither contiguous nor alphabetical order
    annotations = [
        {"id": 1, "image_id": number, "category_id": ids[k], "bbox": [x, y, right - x, bottom - y], "iscrowd": 0}
        for number, name in enumerate(SIZES)
        for k, (x, y, right, bottom) in BOXES[name]
    ]
    table = {
        "images": [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate(SIZES)],
        "categories": [{"id": ids[k], "name": name} for k, name in enumerate(CLASSES)],
        "annotations": annotations,
    }
    (home / "instances.json").write_text(json.dumps(table, indent=1))
    return home


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    home = tmp_path / "yolo"
    write_photos(home / "images")
    (home / "labels").mkdir()
    for name, (height, width) in SIZES.items():
        lines = [
            f"{k} {(x + right) / 2 / width} {(y + bottom) / 2 / height} {(right - x) / width} {(bottom - y) / height}\n"
            for k, (x, y, right, bottom) in BOXES[name]
        ]
        if lines:
            (home / f"labels/{name}.txt").write_text("".join(lines) + "\n")
    (home / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return home


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    home = tmp_path / "voc"
    write_photos(home / "JPEGImages")
    (home / "Annotations").mkdir()
    for name in SIZES:
        objects = "".join(
            f"<object><name>{CLASSES[k]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for k, (x, y, right, bottom) in BOXES[name]
        )
        text = f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
        (home / f"Annotations/{name}.xml").write_text(text)
    return home


def plain(dataset: Dataset) -> dict[str, list[tuple]]:
    return {
        photo.path.stem: sorted(
            (dataset.classes[k], *np.round(box, 3).tolist(), round(float(area), 2), bool(crowd))
            for k, box, area, crowd in zip(photo.class_id, photo.boxes_xyxy, photo.area, photo.crowd, strict=True)
        )
        for photo in dataset.photos
    }


def expected() -> dict[str, list[tuple]]:
    return {
        name: sorted(
            (CLASSES[k], *map(float, box), float((box[2] - box[0]) * (box[3] - box[1])), False) for k, box in boxes
        )
        for name, boxes in BOXES.items()
    }


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
def test_each_layout_gives_the_same_boxes(layout: str, request: pytest.FixtureRequest) -> None:
    dataset = load(request.getfixturevalue(layout))
    assert dataset.layout == layout.upper()
    assert sorted(dataset.classes) == list(CLASSES)
    assert plain(dataset) == expected()
    for photo in dataset.photos:
        assert photo.path.is_file()
        assert (photo.boxes_xyxy.dtype, photo.boxes_xyxy.shape[1]) == (np.float32, 4)
        assert (photo.class_id.dtype, photo.crowd.dtype, photo.area.dtype) == (np.int32, np.bool_, np.float32)


def test_the_real_evaluation_set_is_read_whole(shared: Path) -> None:
    dataset = load(shared / "data/coco_eval")
    assert (dataset.layout, len(dataset.photos), len(dataset.classes)) == ("COCO", 146, 80)
    assert sum(len(photo.class_id) for photo in dataset.photos) == 1194
    assert all(photo.path.is_file() for photo in dataset.photos)


def test_the_people_set_has_its_labels_in_a_file_of_another_name(shared: Path) -> None:
    dataset = load(shared / "data/people")
    assert (dataset.layout, len(dataset.photos)) == ("COCO", 3559)
    assert any(photo.crowd.any() for photo in dataset.photos)
    assert all(photo.path.is_file() for photo in dataset.photos[:100])  # named "images/..." there


def test_no_folder_no_labels_and_no_photos_are_told_apart(tmp_path: Path, coco: Path) -> None:
    with pytest.raises(DatasetError, match="no such data folder"):
        load(tmp_path / "gone")
    with pytest.raises(DatasetError, match="no labels found; there must be images/ with instances"):
        load(coco / "images")
    (coco / "instances.json").write_text('{"images": [], "categories": [], "annotations": []}')
    with pytest.raises(DatasetError, match="the COCO labels name no photo"):
        load(coco)


# --- COCO ----------------------------------------------------------------------------------------


def edit_coco(home: Path, change) -> Path:
    labels = home / "instances.json"
    table = json.loads(labels.read_text())
    change(table)
    labels.write_text(json.dumps(table))
    return home


def test_labels_of_one_split_lie_in_annotations(coco: Path) -> None:
    (coco / "annotations").mkdir()
    shutil.move(coco / "instances.json", coco / "annotations/instances_val2017.json")
    assert plain(load(coco)) == expected()


def test_labels_of_several_splits_must_be_chosen_from(coco: Path) -> None:
    (coco / "annotations").mkdir()
    shutil.move(coco / "instances.json", coco / "annotations/instances_val2017.json")
    (coco / "annotations/instances_train2017.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"several label files \(instances_train2017\.json, instances_val2017\.json"):
        load(coco)
    assert plain(load(coco / "annotations/instances_val2017.json")) == expected()


def test_crowds_and_outline_areas_are_kept(coco: Path) -> None:
    edit_coco(coco, lambda table: table["annotations"][0].update(iscrowd=1, area=17.5))
    photo = load(coco).photos[0]
    assert (photo.crowd.tolist(), photo.area.tolist()) == ([True, False], [17.5, 400.0])


def test_a_name_that_is_listed_twice_is_one_class(coco: Path) -> None:
    edit_coco(coco, lambda table: table["categories"].insert(0, {"id": 0, "name": "cat"}))
    dataset = load(coco)
    assert sorted(dataset.classes) == list(CLASSES)
    assert plain(dataset) == expected()


@pytest.mark.parametrize(("change", "complaint"), [
    (lambda t: t["annotations"][1].pop("bbox"), "annotations[1]: there is no 'bbox'"),
    (lambda t: t["annotations"][1].update(bbox=[1, 2]), "annotations[1]"),
    (lambda t: t["annotations"][1].update(bbox=[1, 2, 3, 4, 5]), "annotations[1]"),
    (lambda t: t["annotations"][1].update(bbox="1234x"), "annotations[1]"),
    (lambda t: t["annotations"][1].update(bbox=[1, 2, -3, 4]), "annotations[1]: bbox [1, 2, -3, 4]"),
    (lambda t: t["annotations"][1].update(bbox=[1, 2, float("nan"), 4]), "[1]: a number is infinite or none"),
    (lambda t: t["annotations"][1].update(bbox=[1, 2, 10**400, 4]), "annotations[1]"),
    (lambda t: t["annotations"][1].update(area=None), "annotations[1]"),
    (lambda t: t["annotations"][1].update(category_id=99), "[1]: category_id 99 is not among the categories"),
    (lambda t: t["annotations"][2].update(image_id="x"), "annotations[2]"),
    (lambda t: t["annotations"].insert(0, 5), "annotations[0]"),
    (lambda t: t["categories"][0].pop("name"), "categories[0]: there is no 'name'"),
    (lambda t: t["images"][2].pop("file_name"), "images[2]: there is no 'file_name'"),
    (lambda t: t["images"][2].update(id=0), "images[2]: id 0 is there twice"),
    (lambda t: t.pop("annotations"), "there is no list 'annotations'"),
    (lambda t: t.update(images={}), "there is no list 'images'"),
    (lambda t: t.update(categories=None), "there is no list 'categories'"),
])  # fmt: skip
def test_broken_coco_labels_name_the_file_and_the_entry(coco: Path, change, complaint: str) -> None:
    edit_coco(coco, change)
    with pytest.raises(DatasetError) as caught:
        load(coco)
    assert str(caught.value).startswith(f"{coco / 'instances.json'}: broken COCO labels: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(("content", "complaint"), [
    (b'{\n "images": [,\n', "line 2"), (b"", "line 1"), (b"[" * 100_000, "recursion"), (b"[1, 2]", "no list"),
    (b"\xff\xff", "cannot be read"), (b'{"images": ' + b"9" * 5000 + b"}", "broken COCO labels"),
])  # fmt: skip
def test_what_is_no_json_of_coco_names_the_file_and_the_line(coco: Path, content: bytes, complaint: str) -> None:
    (coco / "instances.json").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        load(coco)
    assert "instances.json" in str(caught.value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "a/../../secret.jpg", ""])
def test_labels_must_not_point_outside_the_photos(coco: Path, name: str) -> None:
    edit_coco(coco, lambda table: table["images"][0].update(file_name=name))
    with pytest.raises(DatasetError, match=r"images\[0\]: photo .* does not lie in"):
        load(coco)


def test_names_may_begin_at_the_set_rather_than_at_its_photos(coco: Path) -> None:
    edit_coco(coco, lambda table: table["images"][0].update(file_name="images/a.jpg"))
    assert plain(load(coco)) == expected()


def test_photos_may_lie_in_folders_of_their_own(coco: Path) -> None:
    (coco / "images/sub").mkdir()
    shutil.move(coco / "images/a.jpg", coco / "images/sub/a.jpg")
    edit_coco(coco, lambda table: table["images"][0].update(file_name="sub/a.jpg"))
    assert plain(load(coco)) == expected()


# --- YOLO ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "names: [cat, hot dog]\n",
    "path: .\nnames: ['cat', \"hot dog\"]  # two\nnc: 2\n",
    "names: ['cat',\n        'hot dog']\nnc: 2\n",
    "names:\n- cat\n- hot dog\nnc: 2\n",
    "train: images\nnames:\n  - cat  # an animal\n\n  - 'hot dog'\nnc: 2\n",
    "names:\n  0: cat\n  1: hot dog\n\ntrain: images\n",
    "names:\r\n  1: hot dog\r\n  0: \"cat\"\r\n",
    "names: {0: cat, 1: 'hot dog'}\n",
    "names: {1: hot dog,\n  0: cat}\n",
    "\ufeffnames: [cat, hot dog]\n",
])  # fmt: skip
def test_names_are_read_from_each_form_of_data_yaml(yolo: Path, text: str) -> None:
    (yolo / "classes.txt").unlink()
    (yolo / "data.yaml").write_text(text, encoding="utf-8")
    dataset = load(yolo)
    assert dataset.classes == CLASSES
    assert plain(dataset) == expected()


@pytest.mark.parametrize(("text", "names"), [
    ("names: ['a, b', \"c # d\", 'it''s', \"say \\\"x\\\"\"]", ("a, b", "c # d", "it's", 'say "x"')),
    ("names:\n  - cup, small\n  - 'c#'\n  - a:b\n", ("cup, small", "c#", "a:b")),
])  # fmt: skip
def test_names_with_commas_quotes_and_hashes_are_whole(yolo: Path, text: str, names: tuple[str, ...]) -> None:
    (yolo / "classes.txt").unlink()
    (yolo / "data.yaml").write_text(text)
    assert load(yolo).classes == names


@pytest.mark.parametrize(("text", "complaint"), [
    ("nc: 2\n", "no list of class names"),
    ("names:\nnc: 2\n", "data.yaml:1: the names"),
    ("nc: 2\nnames: 2\n", "data.yaml:2: names must be a list"),
    ("names: [cat, hot dog\nnc: 2\n", "data.yaml:1: names must be a list"),
    ("names: [cat, [hot, dog]]\n", "data.yaml:1: broken list of names at"),
    ("names:\n  0: cat\n  2: hot dog\n", "data.yaml:1: the names under 'names:' do not count from 0"),
    ("names:\n  - cat\n  - 'hot dog\n", "data.yaml:3: want '- name' or '0: name', not \"- 'hot dog\""),
    ("names: &all [cat]\n", "data.yaml:1: names must be a list"),
])  # fmt: skip
def test_a_broken_data_yaml_names_the_file_and_the_line(yolo: Path, text: str, complaint: str) -> None:
    (yolo / "classes.txt").unlink()
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(DatasetError) as caught:
        load(yolo)
    assert complaint in str(caught.value)
    assert str(yolo / "data.yaml") in str(caught.value)


@pytest.mark.parametrize(("line", "complaint"), [
    ("0 0.5 0.5 0.1", "want: class cx cy w h"),
    ("0 0.5 0.5 0.1 0.1 0.9", "want: class cx cy w h"),
    ("2 0.5 0.5 0.1 0.1", "class a whole number below 2"),
    ("-1 0.5 0.5 0.1 0.1", "class a whole number below 2"),
    ("0.5 0.5 0.5 0.1 0.1", "class a whole number below 2"),
    ("cat 0.5 0.5 0.1 0.1", "could not convert"),
    ("0 30 20 10 10", "fractions 0..1"),
    ("0 0.5 0.5 -0.1 0.1", "fractions 0..1"),
    ("0 nan 0.5 0.1 0.1", "infinite or none"),
    ("inf 0.5 0.5 0.1 0.1", "infinite or none"),
])  # fmt: skip
def test_a_broken_yolo_line_is_named_with_its_number(yolo: Path, line: str, complaint: str) -> None:
    (yolo / "labels/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(DatasetError) as caught:
        load(yolo)
    assert str(caught.value).startswith(f"{yolo / 'labels/a.txt'}:3: broken YOLO label: ")
    assert complaint in str(caught.value)


def test_a_label_file_that_is_no_text_is_named(yolo: Path) -> None:
    (yolo / "labels/a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(DatasetError, match=re.escape(f"{yolo / 'labels/a.txt'}: cannot be read")):
        load(yolo)


def test_yolo_without_names_says_where_they_are_looked_for(yolo: Path) -> None:
    (yolo / "classes.txt").unlink()
    with pytest.raises(DatasetError, match=r"need the class names in classes\.txt or data\.yaml"):
        load(yolo)


def test_a_gap_among_the_names_would_shift_the_classes_and_is_refused(yolo: Path) -> None:
    (yolo / "classes.txt").write_text("cat\n\nhot dog\n\n")
    with pytest.raises(DatasetError, match=r"classes\.txt:2: no name on this line"):
        load(yolo)


def test_labels_that_fit_no_photo_are_no_empty_photos(yolo: Path) -> None:
    for label in (yolo / "labels").iterdir():
        label.rename(label.with_name(f"old_{label.name}"))
    with pytest.raises(DatasetError, match="no label file has the name of a photo"):
        load(yolo)


def test_splits_are_never_mixed_and_one_can_be_named(yolo: Path) -> None:
    for kind in ("images", "labels"):
        for split, stems in (("train", "a"), ("val", "bc")):
            (yolo / kind / split).mkdir()
            for path in [p for p in (yolo / kind).iterdir() if p.is_file() and p.stem in stems]:
                shutil.move(path, yolo / kind / split)
    with pytest.raises(DatasetError, match=r"several splits \(train, val\); name the one to use, such as .*images/val"):
        load(yolo)
    assert plain(load(yolo / "images/val")) == {name: expected()[name] for name in "bc"}


def test_a_split_with_a_folder_of_its_own_takes_the_names_from_above(yolo: Path, tmp_path: Path) -> None:
    home = tmp_path / "set"
    shutil.move(yolo, home / "valid")
    shutil.move(home / "valid/classes.txt", home / "classes.txt")
    assert plain(load(home / "valid")) == expected()


def test_a_damaged_photo_stays_in_the_set_for_its_reader_to_report(yolo: Path) -> None:
    (yolo / "images/a.jpg").write_bytes(b"no photo")
    assert plain(load(yolo)) == {**expected(), "a": []}


# --- VOC -----------------------------------------------------------------------------------------


def edit_voc(home: Path, old: str, new: str) -> Path:
    label = home / "Annotations/a.xml"
    text = label.read_text()
    assert old in text
    label.write_text(text.replace(old, new, 1))
    return label


def test_difficult_objects_count_neither_for_nor_against(voc: Path) -> None:
    edit_voc(voc, "<difficult>0</difficult>", "<difficult>1</difficult>")
    assert load(voc).photos[0].crowd.tolist() == [True, False]


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("</annotation>", "", "broken VOC label: "),
    ("<xmin>1</xmin>", "<xmin>one</xmin>", "object 1: could not convert"),
    ("<xmin>1</xmin>", "", "object 1: could not convert"),
    ("<xmin>1</xmin>", "<xmin>nan</xmin>", "object 1: a number is infinite or none"),
    ("<xmin>1</xmin>", "<xmin>999</xmin>", "object 1: box 999 1 60 40 ends before it begins"),
    ("<name>hot dog</name>", "<name> </name>", "object 1: there is no name"),
    ("bndbox", "box", "broken VOC label"),
    ("<filename>a.jpg", "<filename>../../a.jpg", "does not lie in"),
    ("<filename>a.jpg", "<filename>/a.jpg", "does not lie in"),
])  # fmt: skip
def test_a_broken_voc_label_is_named(voc: Path, old: str, new: str, complaint: str) -> None:
    label = edit_voc(voc, old, new)
    with pytest.raises(DatasetError) as caught:
        load(voc)
    assert str(caught.value).startswith(f"{label}: ")
    assert complaint in str(caught.value)


def test_an_object_without_a_box_is_named(voc: Path) -> None:
    label = voc / "Annotations/b.xml"
    label.write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(DatasetError, match=r"b\.xml: broken VOC label: object 1: there is no bndbox"):
        load(voc)


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">]>
<annotation><filename>&lol2;</filename></annotation>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_entities_are_refused_in_any_encoding(voc: Path, encoding: str) -> None:
    (voc / "Annotations/a.xml").write_bytes(LAUGHS.replace('"1.0"', f'"1.0" encoding="{encoding}"').encode(encoding))
    with pytest.raises(DatasetError, match=r"a\.xml: too long, with entities or not UTF-8"):
        load(voc)


def test_an_encoding_that_nobody_knows_is_a_broken_label(voc: Path) -> None:
    (voc / "Annotations/a.xml").write_text('<?xml version="1.0" encoding="klingon"?><annotation/>')
    with pytest.raises(DatasetError, match=r"a\.xml: broken VOC label"):
        load(voc)


def test_a_label_of_megabytes_is_refused(voc: Path) -> None:
    (voc / "Annotations/a.xml").write_text("<annotation>" + " " * (1 << 22) + "</annotation>")
    with pytest.raises(DatasetError, match=r"a\.xml: too long"):
        load(voc)


def test_a_label_without_a_file_name_belongs_to_the_photo_of_its_own(voc: Path) -> None:
    edit_voc(voc, "<filename>a.jpg</filename>", "")
    assert plain(load(voc)) == expected()
