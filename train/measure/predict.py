"""`fastpipe-train --predict`: the answers of a checkpoint for images without labels.

The pixels are those of validation (the same loader, sizes and precision), so the answers for the files of a
validation split are those that --evaluate measures. K classes, labels or values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from fastpipe.train.splits import Images
from fastpipe.train.weights import Told, described, names_of_outputs

_NOTHING = Told()
_ANSWERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "classes": class_probabilities,
    "multi-label": lambda logits: torch.sigmoid(logits.float()),
    "regression": Tensor.float,
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One image. values: float32 [K], probabilities 0..1 or the numbers of a regression; None on an error."""

    path: str
    values: npt.NDArray[np.float32] | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A trained model that is ready to answer. task: classes, multi-label or regression."""

    config: TrainConfig
    names: tuple[str, ...]
    task: Task
    forward: Forward


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
    loader = eval_loader(predictor.config, images, quarantine=False)
    done = 0
    try:
        for batch in loader:
            values = iter(_values(predictor, batch[0]))
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


@torch.no_grad()
def _values(predictor: Predictor, images: Tensor) -> npt.NDArray[np.float32]:
    answers = _ANSWERS[predictor.task](predictor.forward(images))
    values: npt.NDArray[np.float32] = answers.cpu().numpy()
    return values


def _broken(loader: Any) -> Mapping[int, str]:
    """The reason of each image that was skipped so far, by its place."""
    return {int(one.sample_id): one.reason for one in loader.incidents() if one.action == "skipped"}


def _answer(
    loader: Any, place: int, broken: Mapping[int, str], values: Iterator[npt.NDArray[np.float32]]
) -> Answer:
    leaf, index = locate(loader.dataset, place)
    if place in broken:
        return Answer(path=leaf.name(index), error=without_remedy(broken[place]))
    return Answer(path=leaf.name(index), values=next(values))
