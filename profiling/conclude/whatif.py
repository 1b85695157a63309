"""`--what-if "cpus=96 gpus=8 gpu=a100 recipe=hot randaugment=device"`: predictions for another machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastpipe.errors import ArgumentError, nearest
from fastpipe.profiling import names
from fastpipe.profiling.conclude.demand import known_gpus, published
from fastpipe.profiling.conclude.predict import Basis, Change, predict_loader, without_policy
from fastpipe.profiling.measure.timing import Spread

_PLACES = ("device", "host", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The machine and the work in question; None: as measured."""

    cpus: float | None = None
    gpus: int = 1
    gpu: str | None = None
    recipe: str | None = None
    randaugment: str = "none"
    workers: int | None = None
    images_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """images/s of the loaders of all ranks, those that the GPUs could take, and the lower of the two."""

    loader: Spread
    demand: float
    images_per_s: Spread
    bound: str
    cpus_needed: float
    sentence: str
    assumptions: tuple[str, ...]


def parse(text: str) -> Question:
    """Read `key=value` words. ArgumentError names an unknown key or a wrong value, and what is allowed."""
    given: dict[str, Any] = {}
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        if not equals or key not in _READERS:
            known = ", ".join(_READERS)
            raise ArgumentError(
                f"what_if must be words like cpus=96 with the keys {known}. Found: {word!r}."
                f"{nearest(key, list(_READERS))}"
            )
        if key in given:
            raise ArgumentError(f"what_if has {key} twice. Found: {text!r}. Give it once")
        given[key] = _READERS[key](key, value)
    if not given:
        raise ArgumentError(f"what_if must have at least one of {', '.join(_READERS)}. Found: {text!r}")
    return Question(**given)


def _positive(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 < number < 1e9:
        raise ArgumentError(f"what_if: {key} must be a number above 0. Found: {value!r}")
    return number


def _whole(key: str, value: str) -> int:
    number = _positive(key, value)
    if number != int(number):
        raise ArgumentError(f"what_if: {key} must be a whole number. Found: {value!r}")
    return int(number)


def _one_of(key: str, value: str) -> str:
    allowed = {
        "gpu": known_gpus(),
        "recipe": sorted({row.recipe for row in published()}),
        "randaugment": list(_PLACES),
    }[key]
    if value not in allowed:
        raise ArgumentError(
            f"what_if: {key} must be one of {', '.join(allowed)}. Found: {value!r}.{nearest(value, allowed)}"
        )
    return value


_READERS: dict[str, Any] = {
    "cpus": _positive,
    "gpus": _whole,
    "gpu": _one_of,
    "recipe": _one_of,
    "randaugment": _one_of,
    "workers": _whole,
    "images_per_s": _positive,
}


def answer(
    question: Question,
    basis: Basis,
    *,
    pillow_ms: float | None,
    device_ms: float | None,
    inside: bool = False,
) -> Answer:
    """Predict. One process per GPU, each with its share of CPUs and workers; GPUs do not slow each other.

    inside: the device stage of the basis has the recipe's RandAugment; without an answer it stays there.
    """
    gpus = question.gpus
    cpus = basis.cpus if question.cpus is None else question.cpus
    share = max(cpus / gpus, 1e-3)
    workers = question.workers or max(1, int(share))
    costs = _costs(question, basis, pillow_ms, device_ms, inside)
    change = Change(costs=costs, cpus=share, workers=workers)
    one = predict_loader(basis, change)
    # Less than a CPU for each rank: the curve starts at one.
    fraction = min(1.0, share)
    loader = Spread(**{part: gpus * fraction * getattr(one, part) for part in ("median", "low", "high")})
    demand, assumptions = _demand(question, basis)
    if inside and question.randaugment == "none":
        assumptions = (*assumptions, "RandAugment is on the device, as the profiled recipe has it")
    rate = Spread(**{part: min(demand, getattr(loader, part)) for part in ("median", "low", "high")})
    bound = "loader" if loader.median < demand else "GPUs" if question.gpu or not basis.shared else "model"
    needed = cpus * demand / loader.median
    sentence = (
        f"{cpus:g} CPUs like these give {loader.median:,.0f} images/s "
        f"({loader.low:,.0f} to {loader.high:,.0f}), and the training takes {demand:,.0f}: "
        f"the {bound} limit{'' if bound == 'GPUs' else 's'} it to "
        f"{rate.median:,.0f} images/s ({rate.low:,.0f} to {rate.high:,.0f}); "
        f"about {needed:,.0f} CPUs would keep up."
    )
    return Answer(
        loader=loader,
        demand=demand,
        images_per_s=rate,
        bound=bound,
        cpus_needed=needed,
        sentence=sentence,
        assumptions=assumptions,
    )


def _costs(
    question: Question, basis: Basis, pillow_ms: float | None, device_ms: float | None, inside: bool
) -> Any:
    """Stage costs with RandAugment at the requested place. On a GPU the device stage costs no CPU."""
    moved = inside and question.randaugment == "host" and device_ms is not None
    costs = list(without_policy(basis.costs, device_ms or 0.0) if moved else basis.costs)
    if question.gpu is not None:
        costs = [replace(cost, wall_ms=1e-6, cpu_ms=0.0) if cost.lane == "main" else cost for cost in costs]
    if question.randaugment == "none":
        return tuple(costs)
    worker = next(cost for cost in costs if cost.lane == "worker")
    added = pillow_ms if question.randaugment == "host" else device_ms
    if added is None:
        raise ArgumentError("what_if: randaugment was not timed in this profile. Leave it out")
    if question.randaugment == "host":
        return (*costs, replace(worker, id=names.PILLOW_RANDAUGMENT, wall_ms=added, cpu_ms=added))
    if question.gpu is not None or inside:
        return tuple(costs)
    return (
        *costs,
        replace(worker, id=names.DEVICE_RANDAUGMENT, lane="main", wall_ms=added, cpu_ms=added),
    )


def _demand(question: Question, basis: Basis) -> tuple[float, tuple[str, ...]]:
    if question.images_per_s is not None:
        return question.images_per_s, ("the demand is the given one",)
    if question.gpu is None:
        if question.recipe is not None:
            raise ArgumentError(
                "what_if: recipe also needs gpu, since the published rates belong to GPUs. "
                f"Found: recipe={question.recipe}. Add gpu={known_gpus()[0]}"
            )
        return basis.demand * question.gpus, ("each GPU takes what the model step here takes",)
    rows = [row for row in published() if row.gpu == question.gpu]
    wanted = [row for row in rows if question.recipe in (None, row.recipe)]
    if not wanted:
        known = ", ".join(sorted({row.recipe for row in rows}))
        raise ArgumentError(
            f"what_if: there is no published rate for recipe={question.recipe}. Known: {known}"
        )
    best = max(wanted, key=lambda row: row.images_per_s / row.gpus)
    return best.images_per_s / best.gpus * question.gpus, (
        f"{question.gpu} rate: {best.images_per_s:,.0f} images/s on {best.gpus} of them, {best.system} "
        f"({best.source}, {best.table}); its CPUs may have limited the published rate",
        "CPUs are like those measured here, one process for each GPU; the scaling curve holds for its share",
    )
