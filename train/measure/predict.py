"""`fastpipe-train --predict`: the answers of a checkpoint for images without labels.

The pixels are those of validation (the same loader, sizes and precision), so the answers for the files of a
validation split are those that --evaluate measures. K classes, labels or values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastpipe.batch.locate import locate
from fastpipe.errors import ArgumentError, DataError, SampleError
from fastpipe.train.broken import without_remedy
from fastpipe.train.checkpoint import load_plain
from fastpipe.train.config.groups import Task
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import eval_loader
from fastpipe.train.distributed import device_named
from fastpipe.train.evaluate import with_given
from fastpipe.train.measure.forward import Forward, class_probabilities, forward_of
from fastpipe.train.metrics.evaluated import check_no_nan
from fastpipe.train.splits import Images
from fastpipe.train.units import Units
from fastpipe.train.weights import Told, described, names_of_outputs

_NOTHING = Told()
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One image. values: [K], probabilities 0..1, or the numbers of a regression; None on an error."""

    path: str
    values: FloatArray | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A trained model that is ready to answer on `device`. task: classes, multi-label or regression.

    units: those that the outputs of a regression are standardised by; None: outputs are as they are meant.
    """

    config: TrainConfig
    names: tuple[str, ...]
    task: Task
    forward: Forward
    device: torch.device
    units: Units | None = None

    @torch.no_grad()
    def values(self, images: Tensor) -> FloatArray:
        """The answers for a batch of images, [B, K]."""
        outputs = self.forward(images).float()
        if self.task == "classes":
            return np.asarray(class_probabilities(outputs).cpu().numpy())
        if self.task == "multi-label":
            return np.asarray(torch.sigmoid(outputs).cpu().numpy())
        found = outputs.cpu()
        return (
            np.asarray(found.numpy())
            if self.units is None
            else self.units.rounded(self.units.given(found).numpy())
        )


def open_predictor(
    checkpoint: Path,
    *,
    weights: str | None = None,
    device: str | None = None,
    told: Told = _NOTHING,
    **settings: Any,
) -> Predictor:
    """The model of a checkpoint or of exported weights, with the set of weights that is named.

    device: as `device_named` takes it. `settings` are keys of the configuration; None leaves one as in
    training. Raises ArgumentError for a set that is not there, and what `described` raises.
    """
    place = device_named(device)
    state = load_plain(checkpoint)
    trained = described(state, checkpoint, told, names_of_outputs(checkpoint, state, told))
    there = trained.weights()
    name = next(iter(there)) if weights is None else weights
    if name not in there:
        raise ArgumentError(
            f"--weights must be one of {', '.join(there)} for {str(checkpoint)!r}. Found: {name!r}"
        )
    config = with_given(trained.config, **settings)
    model = trained.model(there[name], place)
    return Predictor(
        config=config,
        names=trained.classes,
        task=trained.task,
        forward=forward_of(config, model, place),
        device=place,
        units=trained.units,
    )


def predict(predictor: Predictor, sources: list[Images]) -> Iterator[Answer]:
    """An answer for each image, in the order of `sources`; what is read ahead is a few batches.

    Under on_error "skip" an image that cannot be read has an error in its place. Raises DataError for it
    under "raise".
    """
    for images in sources:
        try:
            yield from _answers(predictor, images)
        except SampleError as error:
            raise DataError(
                f"{without_remedy(str(error)).rstrip('. ')}. Or give --on-error skip: the row then has the "
                "error in place of a prediction"
            ) from error


def _answers(predictor: Predictor, images: Images) -> Iterator[Answer]:
    loader = eval_loader(predictor.config, images, device=predictor.device, quarantine=False)
    done = 0
    try:
        for batch in loader:
            answers = predictor.values(batch[0])
            check_no_nan(int(np.isnan(answers).any(axis=1).sum()), len(answers))
            values = iter(answers)
            broken = _broken(loader)
            waiting = len(batch[0])
            while waiting:
                answer, done = _answer(loader, done, broken, values), done + 1
                waiting -= not answer.error
                yield answer
    except DataError:
        if done or len(_broken(loader)) < len(images):  # all of them skipped: each has its row below
            raise
    broken = _broken(loader)
    yield from (_answer(loader, place, broken, iter(())) for place in range(done, len(images)))


def _broken(loader: Any) -> Mapping[int, str]:
    """The reason of each image that was skipped so far, by its place."""
    return {int(one.sample_id): one.reason for one in loader.incidents() if one.action == "skipped"}


def _answer(loader: Any, place: int, broken: Mapping[int, str], values: Iterator[FloatArray]) -> Answer:
    leaf, index = locate(loader.dataset, place)
    if place in broken:
        return Answer(path=leaf.name(index), error=without_remedy(broken[place]))
    return Answer(path=leaf.name(index), values=next(values))
