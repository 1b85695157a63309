"""What the labels of a list are, how a recipe fits to them, and the messages about labels that are wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastpipe.errors import ArgumentError, DataError, NoEffectWarning
from fastpipe.train import load_recipe
from fastpipe.train.config.fit_task import fit_to_task
from fastpipe.train.config.groups import LossConfig, TableConfig
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.prepare import fitted_here
from fastpipe.train.splits import open_data, splits_to_measure
from fastpipe.train.tables import TablePart
from fastpipe.types import Shard

TAGS = TableConfig(label="tags", separator="|")
XY = TableConfig(label="x, y")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.jpg to 7.jpg."""
    root = tmp_path_factory.mktemp("labels")
    for number in range(8):
        Image.new("RGB", (40, 40)).save(root / f"{number}.jpg")
    return root


def lines_of(columns: Mapping[str, Sequence[Any]], suffix: str) -> str:
    """A CSV or JSON lines with the images in order and these columns."""
    rows = list(zip(*columns.values(), strict=True))
    if suffix == ".csv":
        return "\n".join(
            [f"path,{','.join(columns)}"] + [f"{i}.jpg,{','.join(r)}" for i, r in enumerate(rows)]
        )
    return "\n".join(
        json.dumps({"path": f"{i}.jpg", **dict(zip(columns, row, strict=True))}) for i, row in enumerate(rows)
    )


def write(folder: Path, columns: Mapping[str, Sequence[Any]], name: str = "list.csv") -> str:
    file = folder / name
    file.write_text(lines_of(columns, file.suffix))
    return str(file)


def opened(folder: Path, columns: Mapping[str, Sequence[Any]], name: str = "list.csv", **options: Any) -> Any:
    for other in (*folder.glob("*.csv"), *folder.glob("*.jsonl")):
        other.unlink()
    return open_data(write(folder, columns, name), held_out=0.25, **options)


CASES: dict[str, tuple[Mapping[str, Sequence[Any]], str, Any, str, tuple[str, ...]]] = {
    "text": ({"label": ["b", "a"] * 4}, "list.csv", {}, "classes", ("a", "b")),
    "whole numbers": ({"label": ["10", "9"] * 4}, "list.csv", {}, "classes", ("10", "9")),
    "fractions": ({"label": ["1", "0.5"] * 4}, "list.csv", {}, "regression", ("label",)),
    "whole numbers by will": (
        {"label": ["10", "9"] * 4},
        "list.csv",
        {"task": "regression"},
        "regression",
        ("label",),
    ),
    "fractions by will": (
        {"label": ["1", "0.5"] * 4},
        "list.csv",
        {"task": "classes"},
        "classes",
        ("0.5", "1"),
    ),
    "names": ({"tags": ["b|a", "c"] * 4}, "list.csv", {"table": TAGS}, "multi-label", ("a", "b", "c")),
    "lists of names": ({"label": [["b", "a"], []] * 4}, "list.jsonl", {}, "multi-label", ("a", "b")),
    "columns of 0 and 1": (
        {"x": ["1", "0"] * 4, "y": ["0", "0"] * 4},
        "list.csv",
        {"table": XY},
        "multi-label",
        ("x", "y"),
    ),
    "columns of numbers": (
        {"x": ["1", "0"] * 4, "y": ["0.5", "7"] * 4},
        "list.csv",
        {"table": XY},
        "regression",
        ("x", "y"),
    ),
    "vectors of 0 and 1": ({"label": [[0, 1], [1, 1]] * 4}, "list.jsonl", {}, "multi-label", ("0", "1")),
    "vectors": ({"label": [[0.5, 1], [1, 3]] * 4}, "list.jsonl", {}, "regression", ("0", "1")),
    "counts by will": (
        {"label": [[2, 1], [1, 3]] * 4},
        "list.jsonl",
        {"task": "regression"},
        "regression",
        ("0", "1"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_are_what_they_look_like_or_what_is_asked_for(case: str, folder: Path) -> None:
    columns, name, options, task, names = CASES[case]
    found = opened(folder, columns, name, **options)
    assert (found.task, found.classes, found.validation.task) == (task, names, task)
    assert len(found.train) == 6 and len(found.validation) == 2 and found.held_out
    wanted = {"classes": np.int64, "multi-label": np.float32, "regression": np.float64}[task]
    assert found.train.labels.dtype == wanted and found.validation.labels.dtype == wanted
    assert found.train.labels.shape[1:] == (() if task == "classes" else (len(names),))


def test_the_numbers_are_those_of_the_file(folder: Path) -> None:
    columns = {
        "label": ["b", "a"] * 4,
        "y": [f"{i}.5" for i in range(8)],
        "part": ["train"] * 6 + ["val"] * 2,
    }
    table = TableConfig(label="y", split="part")
    found = opened(folder, columns, table=table)
    assert found.train.labels[:, 0].tolist() == [i + 0.5 for i in range(6)]
    assert found.validation.labels[:, 0].tolist() == [6.5, 7.5]
    assert "by the column 'part'" in found.note


def test_another_file_keeps_to_the_labels_of_training(folder: Path) -> None:
    """A file with fewer of them has the same columns; one with others is an error that names the line."""
    opened(folder, {"tags": ["b|a", "c"] * 4}, "train.csv", table=TAGS)
    write(folder, {"tags": ["c", "b|c"]}, "val.csv")
    found = open_data(str(folder / "train.csv"), held_out=0.1, table=TAGS)
    assert found.validation.labels.tolist() == [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]  # type: ignore[union-attr]
    (part,) = splits_to_measure(
        str(folder / "val.csv"),
        trained_on=None,
        held_out=0.1,
        table=TAGS,
        task="multi-label",
        names=("a", "b", "c"),
    ).values()
    assert isinstance(part, TablePart) and part.classes == ("a", "b", "c")
    write(folder, {"tags": ["c", "d|c"]}, "val.csv")
    with pytest.raises(ArgumentError, match=r"among the 3 classes .*line 3: 'd'"):
        open_data(str(folder / "train.csv"), held_out=0.1, table=TAGS)
    write(folder, {"label": [[1, 0], [0, 1]] * 4}, "train.jsonl")
    write(folder, {"label": [[1, 0, 1]]}, "val.jsonl")
    with pytest.raises(
        DataError, match=r"val\.jsonl' must have the 2 labels of the training images.*Found: 3"
    ):
        open_data(str(folder / "train.jsonl"), held_out=0.1)


WRONG: list[tuple[Mapping[str, Sequence[Any]], str, Any, str]] = [
    ({"label": ["0.5", "n/a"] * 4}, "list.csv", {}, r"'label'.* no numbers: 'n/a'.*--task classes"),
    ({"label": ["5", "n/a"] * 4}, "list.csv", {"task": "regression"}, r"line 3: 'n/a'; line 5: 'n/a'"),
    ({"label": ["5", "nan"] * 4}, "list.csv", {"task": "regression"}, r"line 3: 'nan'"),
    ({"x": ["1", "a"] * 4, "y": ["0", "0"] * 4}, "list.csv", {"table": XY}, r"column 'x' .*line 3: 'a'"),
    (
        {"x": ["1", "2"] * 4, "y": ["0", "-1"] * 4},
        "list.csv",
        {"table": XY},
        r"0 or 1 for each label in the columns 'x', 'y'. Found: 2 in 8 places, .*1\.jpg'.*regression",
    ),
    (
        {"label": [[0.5, 1], [1, 3]] * 4},
        "list.jsonl",
        {"task": "multi-label"},
        r"0 or 1 .*Found: 0\.5 .*0\.jpg'",
    ),
    ({"label": ["b", "a"] * 4}, "list.csv", {"task": "multi-label"}, r"several labels .*--table\.separator"),
    (
        {"label": [[0, 1], [1, 1]] * 4},
        "list.jsonl",
        {"task": "classes"},
        r"one class .*Found: several values",
    ),
    ({"label": [[0, 1], [1]] * 4}, "list.jsonl", {}, r"lists of 2 numbers .*line 2: \[1\]"),
    (
        {"tags": ["0.5|1", "2|3"] * 4},
        "list.csv",
        {"table": TAGS},
        r"several numbers in a cell.*table\.label",
    ),
]


@pytest.mark.parametrize(("columns", "name", "options", "text"), WRONG)
def test_labels_that_are_wrong_are_named(
    folder: Path, columns: Mapping[str, Sequence[Any]], name: str, options: Any, text: str
) -> None:
    with pytest.raises(DataError, match=text):
        opened(folder, columns, name, **options)


def test_columns_that_are_not_there_are_named(folder: Path) -> None:
    columns = {"label": ["b", "a"] * 4}
    with pytest.raises(ArgumentError, match=r"table\.split must name a column .*Found: 'part'"):
        opened(folder, columns, table=TableConfig(split="part"))
    with pytest.raises(ArgumentError, match=r"label must name a column .*Found: 'lable'.*'label'"):
        opened(folder, columns, table=TableConfig(label="lable"))
    for keys, text in (
        ({"label": "a,a"}, "different columns"),
        ({"label": "a,"}, "different columns"),
        ({"path": ""}, r"table\.path"),
        ({"label": "a,b", "separator": "|"}, r"table\.separator must be null"),
    ):
        with pytest.raises(ArgumentError, match=text):
            TableConfig(**keys)


def test_what_is_no_list_has_classes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / split / name / "0.jpg")
    with pytest.raises(ArgumentError, match=r"task must be classes .*Found: 'regression'.*\.csv"):
        open_data(str(tmp_path), held_out=0.1, task="regression")
    config = TrainConfig(data=str(tmp_path), table=TAGS, batch_size=2)
    with pytest.warns(NoEffectWarning, match="table names columns of a list"):
        _, found = fitted_here(config, Shard(), explicit=(), recipe_batch_size=None)
    assert found.task == "classes"


def test_a_recipe_fits_to_labels_and_says_so() -> None:
    mild = load_recipe("mild")
    assert fit_to_task(mild, "classes").config is mild and fit_to_task(mild, "classes").changes == {}
    fitted = fit_to_task(mild, "multi-label")
    assert fitted.changes == {"loss.bias_init": (True, False), "loss.label_smoothing": (0.08, 0.0)}
    fitted = fit_to_task(mild, "regression")
    assert fitted.config.loss == LossConfig(name="mse", bias_init=False)
    assert fitted.changes["loss.name"] == ("bce", "mse")
    assert fit_to_task(fitted.config, "regression", explicit={"loss.name"}).changes == {}
    l1 = TrainConfig(loss=LossConfig(name="l1", bias_init=False))
    assert fit_to_task(l1, "regression").config == l1


@pytest.mark.parametrize(
    ("loss", "task", "key", "text"),
    [
        (LossConfig(name="cross_entropy"), "multi-label", "name", "must be bce .*Found: 'cross_entropy'"),
        (LossConfig(name="bce"), "regression", "name", "must be mse or l1 .*Found: 'bce'"),
        (
            LossConfig(label_smoothing=0.1),
            "multi-label",
            "label_smoothing",
            r"must be 0\.0 .*one class an image",
        ),
        (LossConfig(), "regression", "bias_init", "must be False"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(loss: LossConfig, task: Any, key: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=rf"loss\.{key} {text}"):
        fit_to_task(TrainConfig(loss=loss), task, explicit={f"loss.{key}"})


def test_a_loss_of_numbers_is_never_changed_for_classes() -> None:
    with pytest.raises(ArgumentError, match=r"must be bce or cross_entropy .*Found: 'mse'.*--loss\.name bce"):
        fit_to_task(TrainConfig(loss=LossConfig(name="mse")), "classes")


WRONG: dict[str, tuple[Sequence[Any], Any, str]] = {
    "lists beside text": (
        [["cat", "dog"], "cat"] * 4,
        {},
        r"must have lists in every row, or in none\. Found no list in line 2: 'cat'; .*Write \[\"cat\"\]",
    ),
    "lists beside text by will": (
        [["cat", "dog"], "cat"] * 4,
        {"task": "classes"},
        "must have lists in every",
    ),
    "an empty name": ([["cat", " "], ["dog"]] * 4, {}, "must have names in its lists.*line 1: .*empty"),
    "null in a list": ([["cat", None], ["dog"]] * 4, {}, "must have lists of names.*line 1"),
    "dicts beside text": ([{"a": 1}, "cat"] * 4, {}, "must have text or numbers. Found: line 1: {'a': 1}"),
    "NaN beside text": ([float("nan"), "cat"] * 4, {}, "must have text or numbers. Found: line 1: nan"),
    "one number twice": (
        ["1", "1.0"] * 4,
        {},
        "has '1' and '1.0', which are the same number.*--task classes",
    ),
    "lists for classes": ([["cat"], ["dog"]] * 4, {"task": "classes"}, "must have one class"),
    "text for several": (["cat", "dog"] * 4, {"task": "multi-label"}, "must have several labels an image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_labels_in_json_lines_that_are_no_labels_are_named(case: str, folder: Path) -> None:
    labels, options, text = WRONG[case]
    with pytest.raises(DataError, match=text):
        opened(folder, {"label": labels}, "list.jsonl", **options)


def test_labels_in_json_lines_that_are_spelt_in_two_ways(folder: Path) -> None:
    """White space does not make another label, nor does 1.0 in place of 1."""
    found = opened(folder, {"label": [["cat ", "dog"], ["cat"]] * 4}, "list.jsonl")
    assert (found.task, found.classes) == ("multi-label", ("cat", "dog"))
    found = opened(folder, {"label": [1, 1.0, 2, 2] * 2}, "list.jsonl")
    assert (found.task, found.classes) == ("classes", ("1", "2"))
