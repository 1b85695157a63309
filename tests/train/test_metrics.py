"""The metrics of a validation against scikit-learn, and which of them a run may ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor

from fastpipe.errors import ArgumentError, DataError, MissingExtraError
from fastpipe.train.metrics import library
from fastpipe.train.metrics.absent import absent_words, labels_without_images
from fastpipe.train.metrics.evaluated import of_vectors
from fastpipe.train.metrics.outcome import outcome_of
from fastpipe.train.metrics.table import METRICS, Chosen, chosen, metric_named

CLASSES, LABELS, IMAGES = 7, 4, 60


def batches(outputs: Tensor, labels: Tensor, size: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
    """The outputs stand for the images: the model is the identity."""
    yield from zip(outputs.split(size), labels.split(size), strict=True)


def measured(task: Any, names: str, outputs: Tensor, labels: Tensor) -> dict[str, float | None]:
    """What a run with `--metric names` records."""
    asked = chosen(task, names, None, num_classes=outputs.shape[1])
    outcome = outcome_of(
        lambda images: images,
        batches(outputs, labels),
        num_outputs=outputs.shape[1],
        classes=task == "classes",
        keep=asked.keep,
        loss=torch.nn.functional.cross_entropy if task == "classes" else None,
    )
    return asked.values(outcome)


@pytest.mark.parametrize("absent", [0, 2])
def test_metrics_of_classes_are_those_of_scikit_learn(absent: int) -> None:
    """Classes that no image has and nobody predicts do not count; top-5 is another list than the largest."""
    generator = torch.Generator().manual_seed(absent)
    outputs = torch.randn(IMAGES, CLASSES, generator=generator)
    outputs[:, CLASSES - absent :] -= 100.0
    labels = torch.randint(CLASSES - absent, (IMAGES,), generator=generator)
    found = measured("classes", "macro-f1,loss", outputs, labels)
    predicted = outputs.argmax(dim=1)
    assert found["top1"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    expected = sklearn.metrics.top_k_accuracy_score(labels, outputs, k=5, labels=range(CLASSES))
    assert found["top5"] == pytest.approx(expected)
    expected = sklearn.metrics.f1_score(labels, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(expected, abs=1e-6)
    expected = sklearn.metrics.log_loss(labels, outputs.double().softmax(dim=1), labels=range(CLASSES))
    assert found["val_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("spread", [0.5, 100.0])
def test_metrics_of_several_labels_are_those_of_scikit_learn(spread: float) -> None:
    """With ties, and with logits whose probabilities are all 0 or 1 in float32."""
    rng = np.random.default_rng(0)
    labels = (rng.random((IMAGES, LABELS)) < 0.4).astype(np.float32)
    outputs = (spread * rng.normal(size=(IMAGES, LABELS)) + labels).round(1).astype(np.float32)
    outputs[:9] = outputs[0]
    found = measured("multi-label", "macro-f1", torch.from_numpy(outputs), torch.from_numpy(labels))
    expected = sklearn.metrics.average_precision_score(labels, outputs, average="macro")
    assert found["map"] == pytest.approx(expected, abs=1e-6)
    expected = sklearn.metrics.f1_score(labels, outputs > 0, average="macro")
    assert found["macro_f1"] == pytest.approx(expected, abs=1e-6)


def test_a_label_that_no_image_has_is_left_out_of_map_and_counts_zero_in_f1() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    outputs = torch.tensor([[2.0, -1.0], [1.0, -1.0], [3.0, -2.0]])
    assert measured("multi-label", "macro-f1", outputs, labels) == {
        "map": 1.0,
        "macro_f1": pytest.approx(0.4),  # 0.8 and 0
    }
    assert math.isnan(library.mean_average_precision(outputs, torch.zeros(3, 2)))
    assert measured("multi-label", "map", outputs, torch.zeros(3, 2)) == {"map": None}


@pytest.mark.parametrize("columns", [1, 3])
def test_metrics_of_numbers_are_those_of_scikit_learn(columns: int) -> None:
    rng = np.random.default_rng(columns)
    labels = (1e6 + rng.normal(size=(IMAGES, columns)) * range(1, columns + 1)).astype(np.float32)
    outputs = (labels + rng.normal(size=labels.shape)).astype(np.float32)
    found = measured("regression", "rmse,r2", torch.from_numpy(outputs), torch.from_numpy(labels))
    both = labels.astype(np.float64), outputs.astype(np.float64)
    assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(*both), rel=1e-6)
    assert found["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(*both), rel=1e-6)
    assert found["r2"] == pytest.approx(sklearn.metrics.r2_score(*both), rel=1e-6)
    told = of_vectors(
        lambda images: images,
        batches(torch.from_numpy(outputs), torch.from_numpy(labels)),
        "regression",
        tuple(map(str, range(columns))),
    )
    assert told == {"images": IMAGES, **found}


@pytest.mark.parametrize("task", ["classes", "multi-label", "regression"])
def test_a_split_without_images_has_no_figure(task: Any) -> None:
    """As of a rank, and all ranks, whose images were all broken."""
    names = ",".join(metric.name for metric in METRICS if task in metric.tasks and metric.kept) or None
    asked = chosen(task, names, None, num_classes=LABELS)
    empty = outcome_of(
        lambda images: images, iter(()), num_outputs=LABELS, classes=task == "classes", keep=asked.keep
    )
    values = asked.values(empty) if task != "classes" else {"macro_f1": None}
    assert set(values.values()) == {None}


def test_nan_is_never_better_and_a_tie_is_not() -> None:
    top1, loss = metric_named("top-1", "metric"), metric_named("loss", "metric")
    assert top1.better(0.5, None) and top1.better(0.6, 0.5) and not top1.better(0.5, 0.5)
    assert loss.better(0.4, 0.5) and not loss.better(0.6, 0.5) and not loss.better(0.5, 0.5)
    assert not any(one.better(math.nan, than) for one in (top1, loss) for than in (None, 0.5))
    assert not any(one.better(math.inf, None) or one.better(-math.inf, None) for one in (top1, loss))


def test_what_is_measured_and_shown() -> None:
    usual = chosen("classes", None, None, num_classes=10)
    assert [one.name for one in usual.measured] == ["top-1", "top-5"] and not usual.keep
    assert [one.name for one in usual.shown] == ["top-1"] and usual.best.name == "top-1"
    asked = chosen("classes", "Macro-F1, top-5", "loss", num_classes=10)
    assert [one.name for one in asked.measured] == ["top-1", "top-5", "macro-f1", "loss"] and asked.keep
    assert [one.name for one in asked.shown] == ["top-1", "macro-f1", "top-5", "loss"]
    assert asked.best.name == "loss" and not asked.best.higher
    assert chosen("multi-label", None, None, num_classes=3).best.name == "map"
    assert chosen("regression", None, None, num_classes=1).best.name == "mae"


@pytest.mark.parametrize(
    ("task", "metric", "best", "text"),
    [
        ("classes", "mao", None, r"metric must be of top-1, .*Found: 'mao'\. Did you mean 'map'"),
        ("classes", "map", None, "metric must be of top-1, top-5, macro-f1, loss where labels are classes"),
        (
            "regression",
            None,
            "top-1",
            "best_metric must be of mae, rmse, r2, loss where labels are regression",
        ),
        ("classes", None, "top-5", "below six classes.*Found: 5 classes"),
        ("classes", "top-1,", None, "Found: ''"),
    ],
)
def test_a_metric_without_meaning_is_refused(task: Any, metric: Any, best: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        chosen(task, metric, best, num_classes=5)


def test_without_torchmetrics_only_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics.functional.classification", None)
    assert isinstance(chosen("classes", "loss", None, num_classes=10), Chosen)
    with pytest.raises(MissingExtraError, match="torchmetrics"):
        chosen("classes", "macro-f1", None, num_classes=10)


@pytest.mark.parametrize("task", ["classes", "multi-label", "regression"])
def test_outputs_that_are_nan_have_no_figure(task: Any) -> None:
    """The largest of NaNs is the first class, and NaNs have an order: both would be figures."""
    names = ",".join(metric.name for metric in METRICS if task in metric.tasks and metric.name != "loss")
    outputs = torch.randn(IMAGES, CLASSES)
    outputs[3] = math.nan
    labels = torch.zeros(IMAGES, dtype=torch.int64) if task == "classes" else (outputs > 0).float()
    assert set(measured(task, names, outputs, labels).values()) == {None}
    if task != "classes":
        with pytest.raises(DataError, match="NaN for 1 of 60 images"):
            of_vectors(lambda images: images, batches(outputs, labels), task, tuple("abcdefg"))


def test_labels_that_map_leaves_out_are_named() -> None:
    names, labels = tuple("abcdefgh"), np.zeros((3, 8))
    assert labels_without_images(np.eye(8), names) == () and absent_words((), names, "test") == ""
    labels[1, 1] = 1.0
    absent = labels_without_images(labels, names)
    assert absent == ("a", *"cdefgh")
    expected = "mAP leaves out 7 of 8 labels, which no test image has: 'a', 'c', 'd', 'e', 'f' and 2 more"
    assert absent_words(absent, names, "test") == expected
    assert "mAP is not known" in absent_words(names, names, "validation")
