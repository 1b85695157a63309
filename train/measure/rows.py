"""Answers as lines of CSV or JSON, one for each image."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastpipe.errors import ArgumentError
from fastpipe.system.output import printable
from fastpipe.train.measure.predict import Answer, FloatArray

LEAST = 0.5
"""From this probability on, a label of several is given."""
BETWEEN = "|"
"""Between labels in a cell of CSV."""


def check_top_k(top_k: int | None, names: Sequence[str], task: str) -> None:
    """Raise ArgumentError for a number of classes that the model does not have, or another task."""
    if top_k is None:
        return
    if task != "classes":
        raise ArgumentError(f"--top-k is for models that choose one class. Found: a model for {task}")
    if not 1 <= top_k <= len(names):
        raise ArgumentError(f"--top-k must be 1 to {len(names)}, the number of classes. Found: {top_k}")


def csv_lines(
    answers: Iterable[Answer], names: Sequence[str], task: str, *, top_k: int | None, errors: bool
) -> Iterator[str]:
    """A head and a line for each answer. top_k: classes in a line; None: one. errors: a last column for them.

    classes:     path, label, probability, label2, probability2, ...
    multi-label: path, labels (those of 0.5 and more, joined by |), and a column for each label
    regression:  path, and a column for each value
    """
    most, names = top_k or 1, tuple(map(printable, names))
    head = ["path", *_head(names, task, most), *(["error"] if errors else [])]
    yield _line(head)
    for answer in answers:
        if answer.values is None:
            yield _line([printable(answer.path), *[""] * (len(head) - 2), printable(answer.error)])
            continue
        cells = _cells(answer.values, names, task, most)
        yield _line([printable(answer.path), *cells, *([""] if errors else [])])


def json_lines(
    answers: Iterable[Answer], names: Sequence[str], task: str, *, top_k: int | None
) -> Iterator[str]:
    """An object for each answer: path, and label, probability and probabilities (the largest first, all of
    them, or `top_k`); or labels and probabilities; or values; or error.
    """
    names = tuple(map(printable, names))
    for answer in answers:
        found = (
            {"error": printable(answer.error)}
            if answer.values is None
            else _object(answer.values, names, task, top_k or len(names))
        )
        yield json.dumps({"path": printable(answer.path), **found}, ensure_ascii=False) + "\n"


def _head(names: Sequence[str], task: str, most: int) -> list[str]:
    if task != "classes":
        return [*(["labels"] if task == "multi-label" else []), *names]
    pairs = [("label", "probability"), *((f"label{i}", f"probability{i}") for i in range(2, most + 1))]
    return [name for pair in pairs for name in pair]


def _cells(values: FloatArray, names: Sequence[str], task: str, most: int) -> list[str]:
    if task == "classes":
        return [cell for i in _largest(values, most) for cell in (names[i], str(values[i]))]
    labels = [BETWEEN.join(_given(values, names))] if task == "multi-label" else []
    return [*labels, *map(str, values)]


def _object(values: FloatArray, names: Sequence[str], task: str, most: int) -> dict[str, Any]:
    if task == "classes":
        order = _largest(values, most)
        shares = {names[i]: _number(values[i]) for i in order}
        return {"label": names[order[0]], "probability": _number(values[order[0]]), "probabilities": shares}
    by_name = {name: _number(value) for name, value in zip(names, values, strict=True)}
    if task == "multi-label":
        return {"labels": _given(values, names), "probabilities": by_name}
    return {"values": by_name}


def _given(values: FloatArray, names: Sequence[str]) -> list[str]:
    return [name for name, value in zip(names, values, strict=True) if value >= LEAST]


def _largest(values: FloatArray, most: int) -> list[int]:
    # Of equal ones the first, as argmax takes it.
    order: list[int] = np.argsort(-values, kind="stable")[:most].tolist()
    return order


def _number(value: np.floating[Any]) -> float:
    # The shortest text that gives the same float32, not the digits of a float64.
    return float(str(value))


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
