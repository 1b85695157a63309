"""One pass over labelled images: for each image the answer, how sure it was, and how right.

Letters in shapes: N images, B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastpipe.train.accuracy import count_right
from fastpipe.train.measure.forward import Forward, class_probabilities
from fastpipe.train.metrics.evaluated import check_no_nan
from fastpipe.types import Incident, IntArray

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a model said about N images, in the order of the split; skipped images are not among them.

    counts:      int64 [K, 3], see `count_right`
    ids:         int64 [N], the place of each image in the split
    labels, predicted: int64 [N]; of equal logits the first class is predicted
    confidence:  the probability of the predicted class, 0..1
    of_label:    the probability of the right class, 0..1
    log_of_label: its natural logarithm, finite for any finite logits
    squares:     the sum of the squared probabilities of all classes
    """

    counts: Tensor
    ids: IntArray
    labels: IntArray
    predicted: IntArray
    confidence: FloatArray
    of_label: FloatArray
    log_of_label: FloatArray
    squares: FloatArray

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the predicted class is the label, [N]."""
        right: npt.NDArray[np.bool_] = self.labels == self.predicted
        return right


@torch.no_grad()
def judge(forward: Forward, loader: Any, *, num_classes: int) -> Judged:
    """All batches of `loader`, a `fastpipe.DataLoader` that reads every image of a split in order."""
    total = torch.zeros(num_classes, 3, dtype=torch.int64)
    whole, shares = [torch.empty(0, 2, dtype=torch.int64)], [torch.empty(0, 4)]
    for images, labels in loader:
        logits = forward(images)
        target = labels.to(logits.device, non_blocking=True)
        # Summed on the device: reading the counts would wait for it.
        total = total.to(logits.device) + count_right(logits, target, num_classes=num_classes)
        answers, figures = _figures(logits, target)
        whole.append(answers)
        shares.append(figures)
    integers = torch.cat([one.cpu() for one in whole]).numpy()
    numbers = torch.cat([one.cpu() for one in shares]).double().numpy()
    check_no_nan(int(np.isnan(numbers).any(axis=1).sum()), len(numbers))
    return Judged(
        counts=total.cpu(),
        ids=delivered(len(integers), loader.incidents()),
        labels=integers[:, 0],
        predicted=integers[:, 1],
        confidence=numbers[:, 0],
        of_label=numbers[:, 1],
        log_of_label=numbers[:, 2],
        squares=numbers[:, 3],
    )


def _figures(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Label and prediction, int64 [B, 2]; the four figures of Judged, float32 [B, 4]."""
    predicted = logits.argmax(dim=1)
    shares, logs = class_probabilities(logits), logits.float().log_softmax(dim=1)
    figures = [
        shares.gather(1, predicted[:, None])[:, 0],
        shares.gather(1, labels[:, None])[:, 0],
        logs.gather(1, labels[:, None])[:, 0],
        shares.square().sum(dim=1),
    ]
    return torch.stack([labels, predicted], dim=1), torch.stack(figures, dim=1)


def delivered(number: int, incidents: Iterable[Incident]) -> IntArray:
    """The places of `number` delivered images in an order from 0, from which the skipped ones are missing."""
    skipped = {int(one.sample_id) for one in incidents if one.action == "skipped"}
    places = (place for place in range(number + len(skipped)) if place not in skipped)
    return np.fromiter(places, dtype=np.int64, count=number)
