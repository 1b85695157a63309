"""`from_csv` and ImageList: what files may look like, and what bad ones are told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe import ArgumentError, DataError, EmptyDatasetError, ImageList, from_csv

NAMES = ("a.jpg", "b.jpg", "in folder/c.jpg")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three images, in which the test writes its file."""
    (tmp_path / "in folder").mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (4, 4), (90 * number, 0, 0)).save(tmp_path / name, quality=100)
    return tmp_path


def write(place: Path, text: str | bytes, name: str = "list.csv") -> Path:
    file = place / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def csv_of(place: Path, *labels: Any, header: str = "path,label") -> Path:
    rows = [f"{name},{label}" for name, label in zip(NAMES, labels, strict=False)]
    return write(place, "\n".join([header, *rows]))


def paths_of(dataset: ImageList, place: Path) -> list[str]:
    return [os.path.relpath(path, place) for path, _ in dataset.samples]


# ---- what a file may look like

GOOD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "plain": (b"path,label\na.jpg,cat\nb.jpg,dog\nin folder/c.jpg,cat\n", {}),
    "other order, more columns": (
        b"id,label,x,path\n1,cat,,a.jpg\n2,dog,,b.jpg\n3,cat,,in folder/c.jpg\n",
        {},
    ),
    "semicolons": (b"path;label\na.jpg;cat\nb.jpg;dog\nin folder/c.jpg;cat\n", {}),
    "tabs": (b"path\tlabel\na.jpg\tcat\nb.jpg\tdog\nin folder/c.jpg\tcat\n", {}),
    "bars": (b"path|label\na.jpg|cat\nb.jpg|dog\nin folder/c.jpg|cat\n", {}),
    "a delimiter of its own": (
        b"path#label\na.jpg#cat\nb.jpg#dog\nin folder/c.jpg#cat\n",
        {"delimiter": "#"},
    ),
    "quotes": (b'"path","label"\n"a.jpg","cat"\n"b.jpg","dog"\n"in folder/c.jpg","cat"\n', {}),
    "quotes after spaces": (b'path, label\na.jpg, "cat"\nb.jpg, dog \nin folder/c.jpg, cat\n', {}),
    "Windows": (b"path,label\r\na.jpg,cat\r\nb.jpg,dog\r\nin folder/c.jpg,cat\r\n", {}),
    "blank lines": (b"\npath,label\n\na.jpg,cat\nb.jpg,dog\n\n\nin folder/c.jpg,cat\n\n", {}),
    "no last line end": (b"path,label\na.jpg,cat\nb.jpg,dog\nin folder/c.jpg,cat", {}),
    "UTF-8 with mark": (b"\xef\xbb\xbfpath,label\na.jpg,cat\nb.jpg,dog\nin folder/c.jpg,cat\n", {}),
    "UTF-16 with mark": ("path,label\na.jpg,cat\nb.jpg,dog\nin folder/c.jpg,cat\n".encode("utf-16"), {}),
    "an encoding": (
        "path,label,\xe9\na.jpg,cat,\nb.jpg,dog,\nin folder/c.jpg,cat,".encode("cp1252"),
        {"encoding": "cp1252"},
    ),
}


@pytest.mark.parametrize("form", GOOD)
def test_the_form_of_a_file_changes_nothing(place: Path, form: str) -> None:
    text, options = GOOD[form]
    found = from_csv(write(place, text), **options)
    assert paths_of(found, place) == list(NAMES)
    assert found.classes == ["cat", "dog"] and list(found.targets) == [0, 1, 0]
    assert found.class_to_idx == {"cat": 0, "dog": 1}
    assert found[1][0].getpixel((0, 0)) == Image.open(place / "b.jpg").getpixel((0, 0)) != (0, 0, 0)


def test_names_in_quotes_may_hold_delimiters_quotes_and_line_ends(place: Path) -> None:
    for name in ('x, "y".jpg', "two\nlines.jpg"):
        Image.new("RGB", (4, 4)).save(place / name)
    text = 'path,label\n"x, ""y"".jpg",1\n"two\nlines.jpg",2\nb.jpg,oops\n'
    found = from_csv(write(place, text.replace("oops", "3")))
    assert [Path(path).name for path, _ in found.samples] == ['x, "y".jpg', "two\nlines.jpg", "b.jpg"]
    with pytest.raises(DataError, match="line 5: 'oops'"):
        from_csv(write(place, text))


def test_json_lines_keep_their_types(place: Path) -> None:
    rows = [{"path": name, "label": label} for name, label in zip(NAMES, ("1", "2", "10"), strict=True)]
    file = write(place, "\n".join(map(json.dumps, rows)) + "\n\n", "list.jsonl")
    found = from_csv(file)
    assert found.classes == ["1", "10", "2"] and list(found.targets) == [0, 2, 1]
    rows = [{"label": label, "path": name} for name, label in zip(NAMES, (1, 2, 10), strict=True)]
    found = from_csv(write(place, b"\xef\xbb\xbf" + "\n".join(map(json.dumps, rows)).encode(), "l.ndjson"))
    assert found.classes == [] and list(found.targets) == [1, 2, 10]


def test_paths_are_relative_to_the_file_or_to_root(
    place: Path, tmp_path_factory: Any, monkeypatch: Any
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    text = f"path,label\na.jpg,1\n{place}/b.jpg,2\n"
    assert len(from_csv(write(place, text))) == 2
    assert len(from_csv(write(elsewhere, text), root=place)) == 2
    with pytest.raises(DataError, match=r"1 of 2 files .*line 2: 'a\.jpg'"):
        from_csv(write(elsewhere, text))
    monkeypatch.chdir(place)
    assert from_csv("list.csv")[0][1] == 1


# ---- labels


@pytest.mark.parametrize(
    ("labels", "options", "classes", "expected"),
    [
        ((3, -1, 7), {}, [], [3, -1, 7]),
        ((3, 10, 7), {"labels": "classes"}, ["10", "3", "7"], [1, 0, 2]),
        ((3, 10, "n/a"), {"labels": "classes"}, ["10", "3", "n/a"], [1, 0, 2]),
        ((3, 10, 7), {"labels": "text"}, [], ["3", "10", "7"]),
        ((0, 1, 1), {"labels": "numbers", "classes": ["no", "yes"]}, ["no", "yes"], [0, 1, 1]),
        ((0, 1, 1), {"classes": ["no", "yes"]}, ["no", "yes"], [0, 1, 1]),
        ((0, 1, 1), {"classes": ["1", "0"]}, ["1", "0"], [1, 0, 0]),
        ((0, 1, 1), {"labels": "numbers", "classes": ["1", "0"]}, ["1", "0"], [0, 1, 1]),
        (("b", "a", "b"), {"classes": ["b", "a", "c"]}, ["b", "a", "c"], [0, 1, 0]),
        (("b", "a", "b"), {"classes": False}, [], ["b", "a", "b"]),
        (("b", "a", "b"), {"labels": "text"}, [], ["b", "a", "b"]),
    ],
)
def test_labels_are_classes_or_numbers(
    place: Path, labels: Any, options: Any, classes: list[str], expected: Any
) -> None:
    found = from_csv(csv_of(place, *labels), **options)
    assert found.classes == classes and list(found.targets) == expected
    assert [type(label) for label in found.targets] == [type(label) for label in expected]


def test_other_numbers_are_float32(place: Path) -> None:
    found = from_csv(csv_of(place, "1", "-2.5e-1", ".5"))
    assert [type(label) for label in found.targets] == [np.float32] * 3
    assert list(found.targets) == [1.0, -0.25, 0.5]
    assert np.asarray(found.targets).dtype == np.float32


def test_several_columns_are_a_vector_and_a_dict_a_dict(place: Path) -> None:
    rows = "\n".join(
        f"{name},{i},{i / 2},{kind}" for i, (name, kind) in enumerate(zip(NAMES, "xyx", strict=True))
    )
    file = write(place, f"path,count,share,kind\n{rows}\n")
    vectors = from_csv(file, label=["share", "count"])
    assert vectors.classes == ["share", "count"]
    assert vectors.targets[1].dtype == np.float32 and vectors.targets[1].tolist() == [0.5, 1.0]
    dicts = from_csv(file, label={"n": "count", "part": "share", "k": "kind"})
    assert list(dicts.targets) == [{"n": i, "part": i / 2, "k": "xyx"[i]} for i in range(3)]
    nothing = from_csv(file, label=None)
    assert not nothing.labelled and len(nothing[0]) == 1


def test_several_names_in_a_cell_are_a_one_for_each(place: Path) -> None:
    found = from_csv(csv_of(place, "dog|cat", "dog", "bird| cat"), separator="|")
    assert found.classes == ["bird", "cat", "dog"]
    assert np.stack(list(found.targets)).tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 0]]
    found = from_csv(csv_of(place, "dog|cat", " ", ""), separator="|")  # an image of no class
    assert np.stack(list(found.targets)).tolist() == [[1, 1], [0, 0], [0, 0]]
    lines = [json.dumps({"path": n, "label": c}) for n, c in zip(NAMES, (["b"], [], ["a", "b"]), strict=True)]
    found = from_csv(write(place, "\n".join(lines), "l.jsonl"), classes=["b", "a", "c"])
    assert np.stack(list(found.targets)).tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_where_takes_rows_and_keeps_the_classes_of_all(place: Path) -> None:
    text = "path,label,split\na.jpg,cat,train\nb.jpg,dog, val \nin folder/c.jpg,emu,train\n"
    found = from_csv(write(place, text), where={"split": "val"})
    assert found.classes == ["cat", "dog", "emu"] and list(found.targets) == [1]
    with pytest.raises(EmptyDatasetError, match="'split' has the values: 'train'; 'val'"):
        from_csv(write(place, text), where={"split": "test"})


# ---- bad input

HEAD = "path,label\n"
BAD: dict[str, tuple[str | bytes, dict[str, Any], type[Exception], str]] = {
    "empty": ("", {}, EmptyDatasetError, "is empty"),
    "blank": ("\n\n", {}, EmptyDatasetError, "is empty"),
    "header only": (HEAD, {}, EmptyDatasetError, "names no image"),
    "no such column": (
        HEAD + "a.jpg,1\n",
        {"label": "lable"},
        ArgumentError,
        "label must name a column .*'lable'.* 2 columns are 'path', 'label'.*mean 'label'",
    ),
    "no such path column": ("file,label\na.jpg,1\n", {}, ArgumentError, "path must name .*'file', 'label'"),
    "no such where": (HEAD + "a.jpg,1\n", {"where": {"split": 1}}, ArgumentError, "where must name"),
    "a column twice": ("path,label,label\na.jpg,1,2\n", {}, DataError, "2 columns 'label'"),
    "ragged": (
        HEAD + "a.jpg,1\nb.jpg,1,2\nc.jpg\n",
        {},
        DataError,
        "2 fields in its header.*line 3: 3; line 4: 1",
    ),
    "an open quote": (HEAD + '"a.jpg,1\n', {}, DataError, "is not valid CSV"),
    "a quote inside": (HEAD + '"a"b.jpg,1\n', {}, DataError, "is not valid CSV"),
    "another encoding": (HEAD.encode() + b"\xe9.jpg,1\n", {}, DataError, "not text in utf-8.*cp1252"),
    "no encoding": (HEAD, {"encoding": "utf-9"}, ArgumentError, "encoding must be .*'utf-9'"),
    "no delimiter": (HEAD, {"delimiter": ",,"}, ArgumentError, "delimiter must be one character"),
    "no label": (HEAD + "a.jpg,1\nb.jpg,\nin folder/c.jpg,  \n", {}, DataError, "no label in line 3; line 4"),
    "no path": (HEAD + ",1\nb.jpg,2\n", {}, DataError, "paths of files. Found: line 2: ''"),
    "numbers and text": (HEAD + "a.jpg,1\nb.jpg,n/a\n", {}, DataError, "in line 3: 'n/a'.*labels='classes'"),
    "not numbers": (HEAD + "a.jpg,x\nb.jpg,2\n", {"labels": "numbers"}, DataError, "in line 2: 'x'"),
    "nan": (HEAD + "a.jpg,1\nb.jpg,nan\n", {}, DataError, "in line 3: 'nan'"),
    "infinite": (HEAD + "a.jpg,1\nb.jpg,1e999\n", {}, DataError, "in line 3: '1e999'"),
    "more than float32": (HEAD + "a.jpg,0.5\nb.jpg,1e39\n", {}, DataError, "in line 3: '1e39'"),
    "too large": (HEAD + "a.jpg,9999999999999999999\n", {}, DataError, "do not fit into int64"),
    "no kind": (HEAD, {"labels": "class"}, ArgumentError, "labels must be None or one of 'classes'"),
    "a kind of lists": (
        HEAD + "a.jpg,x\n",
        {"labels": "text", "separator": "|"},
        ArgumentError,
        "labels must be None where a label is a list. Found: 'text'",
    ),
    "a kind of vectors": (
        "path,a,b\na.jpg,1,2\n",
        {"labels": "classes", "label": ["a", "b"]},
        ArgumentError,
        "labels must be None where label names several columns",
    ),
    "a kind of nothing": (
        HEAD + "a.jpg,x\n",
        {"labels": "text", "label": None},
        ArgumentError,
        "labels must be None where there is no label",
    ),
    "no class of this number": (
        HEAD + "a.jpg,1\nb.jpg,2\n",
        {"classes": ["x", "y"]},
        ArgumentError,
        r"must be in 0\.\.1, .*line 3: 2",
    ),
    "other classes": (
        HEAD + "a.jpg,x\nb.jpg,y\n",
        {"classes": ["x"]},
        ArgumentError,
        "among the 1 classes .*line 3: 'y'",
    ),
    "classes twice": (
        HEAD + "a.jpg,x\n",
        {"classes": ["x", "x"]},
        ArgumentError,
        "classes must be different",
    ),
    "a string of classes": (
        HEAD + "a.jpg,x\n",
        {"classes": "x"},
        ArgumentError,
        "classes must be a sequence",
    ),
    "label columns twice": (HEAD, {"label": ["label", "label"]}, ArgumentError, "each column once"),
    "no label columns": (HEAD, {"label": []}, ArgumentError, "label must be the name"),
    "text in a vector": ("path,a,b\na.jpg,1,x\n", {"label": ["a", "b"]}, DataError, "'b' .*line 2: 'x'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_what_is_wrong_and_where(place: Path, case: str) -> None:
    text, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        from_csv(write(place, text), **options)


BAD_LINES = {
    "no JSON": ('{"path": "a.jpg", "label": 1}\n{"path": \n', DataError, "line 2 of .* is not JSON"),
    "no object": ("[1, 2]\n", DataError, "line 1 .*must be a JSON object.*list"),
    "a key is missing": (
        '{"path": "a.jpg", "label": 1}\n{"path": "b.jpg"}\n',
        DataError,
        "line 2 lacks 'label'",
    ),
    "a key twice": (
        '{"path": "a.jpg", "label": 1}\n{"path": "b", "label": 1, "label": 2}\n',
        DataError,
        "'label' twice",
    ),
    "null": ('{"path": "a.jpg", "label": null}\n', DataError, "no label in line 1"),
    "a path that is none": ('{"path": 3, "label": 1}\n', DataError, "paths of files. Found: line 1: '3'"),
    "NaN": ('{"path": "a.jpg", "label": NaN}\n', DataError, "line 1: nan"),
    "mixed": ('{"path": "a.jpg", "label": 1}\n{"path": "b.jpg", "label": "x"}\n', DataError, "line 2: 'x'"),
    "lists of other lengths": (
        '{"path": "a.jpg", "label": [1, 2]}\n{"path": "b.jpg", "label": [1]}\n',
        DataError,
        r"lists of 2 numbers as in line 1. Found: line 2: \[1\]",
    ),
    "empty": ("", EmptyDatasetError, "is empty"),
    "no column": ('{"file": "a.jpg"}\n', ArgumentError, "path must name a column .*'file'"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_json_lines_are_told_the_line(place: Path, case: str) -> None:
    text, error, message = BAD_LINES[case]
    with pytest.raises(error, match=message):
        from_csv(write(place, text, "list.jsonl"))


def test_missing_files_are_all_listed_up_to_a_bound(place: Path) -> None:
    rows = "".join(f"none {i}.jpg,1\n" for i in range(50))
    with pytest.raises(DataError) as caught:
        from_csv(write(place, f"path,label\na.jpg,1\n{rows}nowhere/a.jpg,1\n"))
    text = str(caught.value)
    assert text.startswith("51 of 52 files") and "line 3: 'none 0.jpg'" in text
    assert "line 22: 'none 19.jpg'" in text and "none 20" not in text and "and 31 more" in text
    assert len(from_csv(place / "list.csv", check_files=False)) == 52


def test_a_link_counts_as_what_it_leads_to(place: Path) -> None:
    (place / "good.jpg").symlink_to(place / "a.jpg")
    (place / "bad.jpg").symlink_to(place / "nothing")
    (place / "folder.jpg").mkdir()
    with pytest.raises(DataError, match=r"2 of 3 files .*line 3: 'bad\.jpg'; line 4: 'folder\.jpg'"):
        from_csv(write(place, HEAD + "good.jpg,1\nbad.jpg,1\nfolder.jpg,1\n"))


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl"])
def test_a_file_that_is_not_there_is_named(place: Path, name: str) -> None:
    with pytest.raises(EmptyDatasetError, match=f"{name}' does not exist"):
        from_csv(place / name)
    (place / name).mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        from_csv(place / name)


def test_another_ending_is_refused(place: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must end in one of \.csv.*list\.xlsx"):
        from_csv(write(place, HEAD, "list.xlsx"))


# ---- ImageList


@pytest.mark.parametrize(
    ("paths", "labels", "options", "message"),
    [
        ([], [], {}, "at least one image"),
        (["a.jpg"], [1, 2], {}, "one for each of the 1 paths. Found: 2"),
        ([3], None, {}, "paths must hold paths.*Found at 0: 3"),
        ([""], None, {}, "Found at 0: ''"),
        (["a.jpg"], [2], {"classes": ["x", "y"]}, r"must be in 0\.\.1.*label 0: 2"),
        (["a.jpg"], None, {"classes": ["x"]}, "classes must be None"),
        (["a.jpg"], None, {"target_transform": int}, "target_transform must be None"),
        (["a.jpg"], np.float32(3), {}, "labels must be one for each image"),
        (["a.jpg"], np.array([2**63], np.uint64), {}, "fit into int64"),
        (["a.jpg"], torch.ones(1, dtype=torch.bfloat16), {}, r"bfloat16\. Pass labels\.float"),
    ],
)
def test_a_wrong_list_is_refused(paths: Any, labels: Any, options: Any, message: str) -> None:
    with pytest.raises((ArgumentError, EmptyDatasetError), match=message):
        ImageList(paths, labels, **options)


def test_a_list_survives_pickling_and_has_the_face_of_a_folder(place: Path) -> None:
    import pickle

    made = ImageList([place / name for name in NAMES], ["x", "y", "x"], target_transform=str)
    copy = pickle.loads(pickle.dumps(made))
    assert copy.samples == made.samples and copy[2][1] == "0" and copy.root == str(place)
    assert "Number of datapoints: 3" in repr(copy)
    with pytest.raises(IndexError):
        made[3]


def test_a_broken_file_is_named(place: Path) -> None:
    (place / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.jpg' cannot be read as an image"):
        ImageList([place / "a.jpg"])[0]


def test_labels_that_a_script_changes_do_not_change_the_list(place: Path) -> None:
    made = ImageList([place / name for name in NAMES], np.zeros((3, 2), np.float32))
    made[0][1][:] = 7
    assert made[0][1].tolist() == [0, 0]
