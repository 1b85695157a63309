"""Confusion, classes, calibration and mistakes: against scikit-learn, and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics
from sklearn.calibration import calibration_curve

from fastpipe.train.measure.calibration import BINS, calibration_record, reliability
from fastpipe.train.measure.confusion import class_figures, confusion_of, macro_f1
from fastpipe.train.measure.judged import delivered, judge
from fastpipe.train.measure.sheet import Tile, draw_sheet
from fastpipe.train.measure.words import split_lines
from fastpipe.types import Incident

K, N = 7, 500


def incident(sample_id: int, action: Any = "skipped") -> Incident:
    return Incident(sample_id=sample_id, key="k", action=action, reason="torn")


class Loader:
    """What `judge` needs of a loader: batches, and the samples that were left out."""

    def __init__(self, batches: list[Any], incidents: tuple[Incident, ...] = ()) -> None:
        self.batches, self._incidents = batches, incidents

    def __iter__(self) -> Any:
        return iter(self.batches)

    def incidents(self) -> tuple[Incident, ...]:
        return self._incidents


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, K] that are right about half the time, and labels; class 6 is never predicted."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, K, (N,), generator=generator)
    logits = 2 * torch.randn(N, K, generator=generator)
    logits[torch.arange(N), labels] += 1.5
    logits[:, 6] = -20.0
    return logits, labels


@pytest.fixture(scope="module")
def judged(drawn: tuple[torch.Tensor, torch.Tensor]) -> Any:
    logits, labels = drawn
    batches = [list(pair) for pair in zip(logits.split(64), labels.split(64), strict=True)]
    return judge(lambda images: images, Loader(batches), num_classes=K)


def test_confusion_and_class_figures_are_scikit_learns(judged: Any) -> None:
    confusion = confusion_of(judged.labels, judged.predicted, num_classes=K)
    dense = np.zeros((K, K), dtype=int)
    for (label, predicted), count in confusion.items():
        dense[label, predicted] = count
    assert (dense == metrics.confusion_matrix(judged.labels, judged.predicted, labels=range(K))).all()
    figures = class_figures(confusion, num_classes=K)
    theirs = metrics.precision_recall_fscore_support(
        judged.labels, judged.predicted, labels=range(K), zero_division=0
    )
    for place, one in enumerate(figures):
        expected = [column[place] for column in theirs]
        found = [one.precision or 0.0, one.recall, one.f1, one.support]
        assert found == pytest.approx(expected, abs=1e-6)
    assert figures[6].precision is None and figures[6].predicted == 0
    assert macro_f1(figures) == pytest.approx(theirs[2].mean(), abs=1e-6)


def test_a_class_without_images_and_answers_has_no_figures() -> None:
    figures = class_figures({(0, 0): 3}, num_classes=2)
    assert figures[1] == (None, None, None, 0, 0)
    assert macro_f1(figures) == 1.0 and macro_f1(figures[1:]) is None


def test_nll_and_brier_are_scikit_learns(judged: Any, drawn: Any) -> None:
    shares = drawn[0].double().softmax(1).numpy()
    record = calibration_record(judged)
    assert record["nll"] == pytest.approx(metrics.log_loss(judged.labels, shares, labels=range(K)), abs=1e-5)
    one_hot = np.eye(K)[judged.labels]
    # scikit-learn's Brier score is of two classes: the original one is the sum over the classes.
    brier = sum(metrics.brier_score_loss(one_hot[:, k], shares[:, k]) for k in range(K))
    assert record["brier"] == pytest.approx(brier, abs=1e-5)


def test_the_bins_are_scikit_learns_and_ece_is_their_gap(judged: Any) -> None:
    record = calibration_record(judged)
    filled = [one for one in record["bins"] if one["images"]]
    accuracy, confidence = calibration_curve(judged.right, judged.confidence, n_bins=BINS)
    assert [one["accuracy"] for one in filled] == pytest.approx(accuracy.tolist(), abs=1e-6)
    assert [one["confidence"] for one in filled] == pytest.approx(confidence.tolist(), abs=1e-6)
    weights = np.array([one["images"] for one in filled]) / N
    assert record["ece"] == pytest.approx(float((weights * abs(accuracy - confidence)).sum()), abs=1e-6)


def test_the_edges_of_the_bins_belong_to_the_lower_one() -> None:
    """Guo et al.: bins are (low, high], and 1.0 lies in the last."""
    bins = reliability(np.array([1 / BINS, 1.0, 0.0]), np.array([True, False, False]))
    assert [one["images"] for one in bins] == [2, *[0] * (BINS - 2), 1]
    assert bins[1]["accuracy"] is None


def test_a_certain_and_wrong_answer_has_a_finite_likelihood() -> None:
    logits = torch.tensor([[200.0, -200.0]])
    judged = judge(lambda images: images, Loader([[logits, torch.tensor([1])]]), num_classes=2)
    record = calibration_record(judged)
    assert record["nll"] == pytest.approx(400.0) and record["brier"] == pytest.approx(2.0)
    assert math.isfinite(record["ece"])


def test_no_image_is_no_figure() -> None:
    record = calibration_record(judge(lambda images: images, Loader([]), num_classes=2))
    assert (record["ece"], record["nll"], record["brier"]) == (None, None, None)


def test_images_after_a_skipped_one_keep_their_place() -> None:
    incidents = (incident(1), incident(3, "rescued"), incident(4))
    assert delivered(4, incidents).tolist() == [0, 2, 3, 5]


def test_of_many_classes_the_worst_are_printed() -> None:
    names = [f"class {k}" for k in range(150)]
    one = {"precision": 0.5, "support": 10, "predicted": 10}
    found = {
        "classes": {n: {**one, "recall": k / 150, "f1": k / 150} for k, n in enumerate(names)},
        "confusion": {"class 0": {"class 1": 7, "class 0": 3}, "class 2": {"class 0": 9}},
        "calibration": {"ece": 0.1, "nll": 1.0, "brier": 0.5, "bins": [{}] * BINS},
    }
    lines = list(split_lines(found))
    assert lines[0] == "the 20 worst of 150 classes:" and lines[1].startswith("class 0: 0.000")
    assert lines[20].startswith("class 19:")
    assert lines[21:23] == ["class 2 taken for class 0: 9", "class 0 taken for class 1: 7"]
    assert lines[23] == "calibration: ECE 0.100 (15 bins), NLL 1.000, Brier 0.500"


def test_the_matrix_in_text_has_every_count() -> None:
    one = {"precision": 0.5, "support": 10, "predicted": 10, "recall": 0.5, "f1": 0.5}
    found = {
        "classes": {"cat": one, "dog": one},
        "confusion": {"cat": {"cat": 12, "dog": 3}, "dog": {"dog": 100}},
        "calibration": {"ece": None},
    }
    assert list(split_lines(found))[3:] == [
        "         1    2",
        "1 cat   12    3",
        "2 dog    .  100",
    ]


def test_a_sheet_holds_its_pictures_and_says_what_is_gone() -> None:
    mistake = {"label": "a" * 80, "predicted": "b", "probability": 0.9, "path": "x/" * 80 + "end.jpg"}
    red = Image.new("RGB", (100, 60), "#ff0000")
    sheet = draw_sheet([("one", [Tile(red, mistake)] * 7), ("none", []), ("gone", [Tile(None, mistake)])])
    pixels = np.asarray(sheet)
    assert (pixels == (255, 0, 0)).all(axis=2).sum() == 7 * 100 * 60
    # Long names are cut: nothing is drawn between the columns of tiles, nor at the right edge.
    below = pixels[:, -12:]
    assert (below == 255).all() and sheet.width == 6 * 192 + 12


def test_judged_images_are_those_of_the_batches(judged: Any, drawn: Any) -> None:
    logits, labels = drawn
    assert judged.predicted.tolist() == logits.argmax(1).tolist()
    assert judged.labels.tolist() == labels.tolist() and judged.ids.tolist() == list(range(N))
    assert judged.confidence == pytest.approx(logits.softmax(1).max(1).values.numpy())
    assert int(judged.counts[:, 1].sum()) == int((logits.argmax(1) == labels).sum())
    assert judged.right.mean() == pytest.approx(metrics.accuracy_score(judged.labels, judged.predicted))
