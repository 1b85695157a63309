"""From an experiment to its runs: the command line of each arm and seed, at one of two scales.

imagenet  the text's own lengths and settings; the recipes are made for eight A100s
small     a small model at few pixels on this machine's CPUs, on `--data demo` or a folder of a few thousand
          photos; a table takes at most an hour for each seed on 2 cores
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastpipe.errors import ArgumentError, nearest
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.studies.design import Arm, Experiment, Scale

# Chosen for their cost, none by a score (docs/study.md). Workers are no gain on two cores that train. At 32
# pixels in bfloat16 an image of Mild costs a third of what it does at 48 in float32.
SMALL = {
    "model": "resnet10t",
    "train_resolution": "32",
    "num_workers": "0",
    "backend": "turbo",
    "precision": "amp_bf16",
    "fit_to_data": "true",
}
# Not at 16 pixels, half of 32: there the weights of a 3x3 convolution with stride 2 see a map of 1x1, and in
# bfloat16 on a CPU torch 2.14 leaves some of their gradients unwritten (docs/methods/precision.md).
_GROWING = {"progressive_resizing.initial_scale": "0.625"}
FIRST_SEED = 1


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One arm with one seed. options: dotted keys of fastpipe-train; empty for a run that times a loader."""

    arm: Arm
    seed: int
    epochs: int
    options: dict[str, str]
    timed: bool = False

    @property
    def name(self) -> str:
        """Its folder, relative to that of the study."""
        return f"{self.arm.name}/seed-{self.seed}"

    def argv(self, data: str, folder: Path) -> list[str]:
        """The arguments of fastpipe-train; a run that has a checkpoint continues."""
        own = {"data": data, "output_dir": str(folder), "resume": "auto"}
        return [word for key, value in {**self.options, **own}.items() for word in (option(key), value)]


def option(key: str) -> str:
    """`--loss.label-smoothing` for loss.label_smoothing."""
    return "--" + key.replace("_", "-")


def planned(
    experiment: Experiment, scale: Scale, *, seeds: int | None = None, only: Sequence[str] = ()
) -> list[PlannedRun]:
    """The runs, seed by seed, so that those finished at any time compare all arms.

    only: names of arms. Raises ArgumentError for an unknown one, fewer than one seed, or no run at all.
    """
    count = experiment.seeds if seeds is None else seeds
    if count < 1:
        raise ArgumentError(f"--seeds must be at least 1. Found: {count}")
    arms = [arm for arm in experiment.arms if scale == "imagenet" or arm.small is not None]
    names = [arm.name for arm in arms]
    for name in only:
        if name not in names:
            raise ArgumentError(
                f"--only must name runs of {experiment.name} at scale {scale}: {', '.join(names)}. "
                f"Found: {name!r}.{nearest(name, names)}"
            )
    chosen = [arm for arm in arms if not only or arm.name in only]
    return [run for seed in range(FIRST_SEED, FIRST_SEED + count) for run in _of_seed(chosen, scale, seed)]


def _of_seed(arms: Sequence[Arm], scale: Scale, seed: int) -> Iterator[PlannedRun]:
    for arm in arms:
        epochs = arm.epochs if scale == "imagenet" else arm.small
        assert epochs is not None
        if scale == "small" and arm.loading is not None:
            yield PlannedRun(arm=arm, seed=seed, epochs=epochs, options={}, timed=True)
            continue
        shared = {} if scale == "imagenet" else small_options(arm.recipe)
        options = {"recipe": arm.recipe, "epochs": str(epochs), **shared, **arm.options, "seed": str(seed)}
        yield PlannedRun(arm=arm, seed=seed, epochs=epochs, options=options)


def small_options(recipe: str) -> dict[str, str]:
    """The settings of scale small, by keys of fastpipe-train; images grow where the recipe's do."""
    grows = load_recipe(recipe).progressive_resizing is not None
    return {**SMALL, **(_GROWING if grows else {})}
