"""What a command line asks for beside the keys of a recipe: how runs are started, repeated, reckoned up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from fastpipe.errors import ArgumentError
from fastpipe.train.config.schema import TrainConfig

__all__ = ["OPTION_NAMES", "Invocation", "Options", "check_options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of one invocation. They change no weight: a checkpoint and config.yaml know nothing of them."""

    resume: str | None = None
    """Continue from auto (output_dir's last.ckpt, if there is one) or from a checkpoint."""
    nproc: int | None = None
    """Train in so many processes on this machine, one a GPU; under torchrun leave it out."""
    seeds: int | None = None
    """Train so many times, with the seeds seed, seed + 1, ...; seeds.json has mean and spread."""
    extrapolate_from: int | None = None
    """Train so many of the epochs, and extrapolate the time to train to all of them (a formula of ours)."""
    price_per_hour: float | None = None
    """The price of all machines of the run together; summary.json gets the cost."""
    watts: float | None = None
    """What all machines of the run draw together, on average; summary.json gets energy_kwh."""
    wandb: str | None = None
    """The project of Weights & Biases that gets the numbers as well; needs the package wandb."""
    quiet: bool = False
    """Print errors and the last line only."""

    def __post_init__(self) -> None:
        _require(self.seeds is None or self.seeds >= 2, "seeds", "at least 2, for a spread", self.seeds)
        for name in ("price_per_hour", "watts"):
            value = getattr(self, name)
            _require(value is None or 0.0 < value < math.inf, name, "a number above 0", value)
        if self.seeds is not None and self.nproc is not None:
            raise ArgumentError(
                "--seeds trains in this process, one run after the other: leave out --nproc, or start each "
                "seed by itself (--seed K --nproc N)"
            )
        if self.seeds is not None and self.resume not in (None, "auto"):
            raise ArgumentError(
                "--resume with --seeds must be auto: every seed has its own checkpoint. "
                f"Found: {self.resume!r}"
            )


OPTION_NAMES = tuple(field.name for field in fields(Options))


def check_options(options: Options, config: TrainConfig) -> None:
    """Raise ArgumentError where the options do not fit the run."""
    last = options.extrapolate_from
    if last is None:
        return
    _require(
        2 <= last < config.epochs,
        "extrapolate_from",
        f"at least 2, since the first epoch's time is not used, and below the run's {config.epochs} epochs",
        last,
    )
    if config.progressive_resizing is not None:
        raise ArgumentError(
            "--extrapolate-from takes epochs to be alike, and with progressive_resizing they are not: the "
            "first ones are the quickest. Train in full, or give --progressive-resizing null"
        )


def _require(ok: bool, name: str, allowed: str, found: object) -> None:
    if not ok:
        raise ArgumentError(f"--{name.replace('_', '-')} must be {allowed}. Found: {found!r}")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A parsed command line: `explicit` holds the dotted keys that the user set himself."""

    config: TrainConfig
    explicit: frozenset[str]
    recipe_batch_size: int
    print_config: bool = False
    list_recipes: bool = False
    options: Options = field(default_factory=Options)
