"""One pass over a split: counts, outputs, labels and losses, of each image once, over all ranks.

Letters in shapes: B batch, N images, K classes or outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastpipe.train.accuracy import count_right
from fastpipe.train.distributed import joined_rows, summed

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a pass over a split found, over all ranks.

    counts:  int64 [K, 3] of `count_right` where an image has one class, else None.
    outputs: the predicted class, int64 [N], or the model's outputs, float32 [N, K]; of numbers float64, in
             the units of the labels; None if not kept.
    labels:  the class, int64 [N], or float64 [N, K]; None if not kept.
    loss:    the mean over the images; None if not asked for. NaN without images.
    nan:     the number of images with an output that is NaN. No figure means anything then: the largest of
             NaNs is the first class, and ranks of NaNs are an order.
    """

    counts: Tensor | None = None
    outputs: Tensor | None = None
    labels: Tensor | None = None
    loss: float | None = None
    nan: int = 0


@torch.no_grad()
def outcome_of(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_outputs: int,
    classes: bool = True,
    keep: bool = False,
    loss: Loss | None = None,
    given: Callable[[Tensor], Tensor] | None = None,
) -> Outcome:
    """The outcome of `forward` on this rank's and all other ranks' images; all ranks call it together.

    classes: labels are class numbers int64 [B], else float [B, K]. keep: outputs and labels are kept, too.
    loss: the mean loss of a batch's outputs and labels. given: brings all kept outputs, on the CPU, into the
    units of the labels. A rank may have no batch, as of a small split.
    """
    counts, nan = torch.zeros(num_outputs, 3, dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    seen = _Seen(num_outputs=num_outputs, classes=classes)
    for images, labels in batches:  # kept on the device: reading would wait for it
        outputs = forward(images).float()
        nan = nan.to(outputs.device) + outputs.isnan().any(dim=1).sum()
        if classes:
            counts = counts.to(labels.device) + count_right(outputs, labels, num_classes=num_outputs)
        if keep:
            seen.keep(outputs, labels)
        if loss is not None:
            seen.losses.append(loss(outputs, labels).double() * len(labels))
            seen.images += len(labels)
    kept_outputs, kept_labels = seen.rows() if keep else (None, None)
    if given is not None and kept_outputs is not None:
        kept_outputs = given(kept_outputs)
    return Outcome(
        counts=summed(counts.cpu()) if classes else None,
        outputs=kept_outputs,
        labels=kept_labels,
        loss=None if loss is None else seen.mean_loss(),
        nan=int(summed(nan.cpu())),
    )


class _Seen:
    """What is kept of every batch, on the device until the end."""

    def __init__(self, *, num_outputs: int, classes: bool) -> None:
        self._classes = classes
        # Of these types also on a rank without an image, since ranks join their rows.
        empty = torch.zeros(0, dtype=torch.int64) if classes else torch.zeros(0, num_outputs)
        self._outputs, self._labels = [empty], [empty if classes else empty.double()]
        self.losses: list[Tensor] = []
        self.images = 0

    def keep(self, outputs: Tensor, labels: Tensor) -> None:
        """The class or all outputs of each image, and its label."""
        self._outputs.append(outputs.argmax(dim=1) if self._classes else outputs)
        self._labels.append(labels if self._classes else labels.double())

    def rows(self) -> tuple[Tensor, Tensor]:
        """Outputs and labels of all ranks, on the CPU."""
        outputs, labels = (
            torch.cat([part.cpu() for part in parts]) for parts in (self._outputs, self._labels)
        )
        return joined_rows(outputs), joined_rows(labels)

    def mean_loss(self) -> float:
        """The mean over the images of all ranks."""
        total = float(torch.stack(self.losses).sum()) if self.losses else 0.0
        both = summed(torch.tensor([total, self.images], dtype=torch.float64))
        return float(both[0] / both[1])
