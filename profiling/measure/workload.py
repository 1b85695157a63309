"""The profiled work: the options as given, and the training that they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torchvision import transforms as T

from fastpipe.backends.registry import BACKENDS
from fastpipe.errors import ArgumentError, nearest
from fastpipe.profiling.conclude.demand import rate_of
from fastpipe.profiling.conclude.whatif import Question, parse
from fastpipe.system.cgroups import usable_cpus
from fastpipe.system.machine import MOST_OF_A_COMMAND, worker_count
from fastpipe.transforms import RandAugment, RandomErasing, TrivialAugmentWide, lift
from fastpipe.transforms.step_table import step_of
from fastpipe.types import Plan, Spec

__all__ = ["Options", "Workload", "make_workload"]

_MODEL, _RESOLUTION, _BATCH_SIZE = "resnet18", 176, 64
_SECONDS, _QUICK_SECONDS = 1.4, 0.3
# The usual mean and standard deviation of ImageNet's pixels, RGB in 0..1.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# torchvision's class for a spec, as torch's workers run it.
_IN_WORKERS: Mapping[type[Spec], Callable[[Any], Any]] = {
    RandAugment: lambda spec: T.RandAugment(num_ops=spec.length),
    TrivialAugmentWide: lambda spec: T.TrivialAugmentWide(),
    RandomErasing: lambda spec: T.RandomErasing(p=spec.p),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A command line. None means the recipe's value, otherwise the profiler's own."""

    data: str
    recipe: str | None = None
    model: str | None = None
    resolution: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    seconds_per_stage: float | None = None
    quick: bool = False
    backend: str = "torchvision"
    target_images_per_s: str | None = None
    verify: bool = False
    what_if: str | None = None

    def __post_init__(self) -> None:
        _at_least("resolution", self.resolution, 1)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("workers", self.workers, 0)
        seconds = self.seconds_per_stage
        if seconds is not None and not 0.0 < seconds <= 3600.0:
            raise ArgumentError(f"seconds_per_stage must be above 0 and at most 3600. Found: {seconds!r}")
        if self.backend not in BACKENDS:
            raise ArgumentError(
                f"backend must be one of {', '.join(BACKENDS)}. Found: {self.backend!r}."
                f"{nearest(self.backend, list(BACKENDS))}"
            )


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ArgumentError(f"{name} must be at least {least}. Found: {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The training that the stages are timed for.

    models: the library of `model`. augment: the recipe's augmentations, on the device stage.
    seconds: spent on each stage, roughly.
    target: images/s that replace the model, and their source. question: that of `--what-if`.
    """

    data: str
    recipe: str | None
    model: str
    models: Literal["torchvision", "timm"]
    resolution: int
    batch_size: int
    workers: int
    channels_last: bool
    seconds: float
    quick: bool
    backend: str = "torchvision"
    target: tuple[float, str] | None = None
    verify: bool = False
    question: Question | None = None
    augment: tuple[Spec, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def side(self) -> int:
        """The height in pixels of the model's input: ColOut and Resize change it on the device."""
        height = width = self.resolution
        for spec in self.augment:
            height, width = spec.target(height, width)
        return height


def make_workload(options: Options) -> Workload:
    """Fill in missing values. Raises what loading a recipe raises; MissingExtraError names its extra."""
    recipe, augment, notes = _recipe(options.recipe, options.resolution)
    default_s = _QUICK_SECONDS if options.quick else _SECONDS
    return Workload(
        data=options.data,
        recipe=options.recipe,
        model=options.model or (recipe.model if recipe else _MODEL),
        models="timm" if recipe else "torchvision",
        resolution=options.resolution or (recipe.train_resolution if recipe else _RESOLUTION),
        batch_size=options.batch_size or (recipe.batch_size if recipe else _BATCH_SIZE),
        workers=_default_workers() if options.workers is None else options.workers,
        channels_last=bool(recipe and recipe.channels_last),
        seconds=options.seconds_per_stage or default_s,
        quick=options.quick,
        backend=options.backend,
        target=None if options.target_images_per_s is None else rate_of(options.target_images_per_s),
        verify=options.verify,
        question=None if options.what_if is None else parse(options.what_if),
        augment=augment,
        notes=notes,
    )


def _default_workers() -> int:
    return worker_count(usable_cpus(), most=MOST_OF_A_COMMAND)


def _recipe(name: str | None, resolution: int | None) -> tuple[Any, tuple[Spec, ...], tuple[str, ...]]:
    """The trainer's recipe at the given resolution, its augmentations, and notes on what is left out."""
    if name is None:
        return None, (), ()
    from fastpipe.train import augment_specs, load_recipe

    recipe = load_recipe(name)
    # The profile stays at full size, so progressive resizing does nothing.
    sized = replace(recipe, train_resolution=resolution or recipe.train_resolution, progressive_resizing=None)
    left_out = [
        word
        for word, given in (
            ("BlurPool", recipe.blurpool),
            ("EMA", recipe.ema),
            (f"{recipe.loss.name} loss (cross-entropy instead)", recipe.loss.name != "cross_entropy"),
        )
        if given
    ]
    notes = []
    if left_out:
        notes.append(f"The timed model step leaves out the recipe's {', '.join(left_out)}.")
    if recipe.progressive_resizing is not None:
        notes.append(f"Progressive resizing is left out: every step is at {recipe.train_resolution} pixels.")
    return recipe, augment_specs(sized), tuple(notes)


def transform_of(resolution: int) -> tuple[Any, Plan]:
    """The usual training pipeline at `resolution` for torch's own loader, and its plan for fastpipe's."""
    transform = T.Compose(
        [T.RandomResizedCrop(resolution), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(_MEAN, _STD)]
    )
    plan = lift(transform).plan
    if plan is None:
        raise ArgumentError(f"resolution {resolution} gives a pipeline that cannot be lifted")
    return transform, plan


def torch_transform(transform: Any, augment: tuple[Spec, ...]) -> tuple[Any, str]:
    """The pipeline with torchvision's classes for `augment`, as torch's workers would run it, in words too.

    ColOut, MixUp and CutMix have none that works on single images: they are left out, and named.
    """
    steps, ours, left_out = list(transform.transforms), [], []
    place = next(place for place, step in enumerate(steps) if isinstance(step, T.ToTensor))
    for spec in augment:
        name, make = type(spec).__name__, _IN_WORKERS.get(type(spec))
        if make is None:
            left_out.append(name)
            continue
        steps.insert(len(steps) if step_of(spec).pixels == "float" else place, make(spec))
        ours.append(name)
    if not augment:
        return transform, "the same work"
    words = [
        f"torchvision's {', '.join(ours)}" if ours else "",
        f"no {', '.join(left_out)}" if left_out else "",
    ]
    return T.Compose(steps), "; ".join(word for word in words if word)
