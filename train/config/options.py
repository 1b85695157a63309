"""Options of the command line that are not keys of a recipe: how runs are started, repeated and summed up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from fastpipe.errors import ArgumentError
from fastpipe.train.config.checks import check_texts
from fastpipe.train.config.schema import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one invocation. They change no weight, and checkpoints and config.yaml omit them."""

    resume: str | None = None
    """Continue from a checkpoint, or with auto from the last.ckpt in output_dir, if there is one."""
    nproc: int | None = None
    """The number of training processes on this machine, one for each GPU. Leave it out under torchrun."""
    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, or cuda:N for one GPU."""
    seeds: int | None = None
    """The number of runs, with the seeds seed, seed + 1, ...; seeds.json gets mean and spread."""
    extrapolate_from: int | None = None
    """Train only this many epochs, and extrapolate the time to train to all of them, by our own formula."""
    price_per_hour: float | None = None
    """The price of all machines of the run together; summary.json gets the cost."""
    watts: float | None = None
    """The average power draw of all machines of the run together; summary.json gets energy_kwh."""
    wandb: str | None = None
    """Also log the numbers to this project of Weights & Biases; needs the package wandb."""
    mlflow: str | None = None
    """Also log the numbers to this experiment of MLflow; needs the package mlflow."""
    quiet: bool = False
    """Print errors and the last line only."""

    def __post_init__(self) -> None:
        check_texts(self, "--")
        _require(self.seeds is None or self.seeds >= 2, "seeds", "at least 2, to have a spread", self.seeds)
        for name in ("price_per_hour", "watts"):
            value = getattr(self, name)
            _require(value is None or 0.0 < value < math.inf, name, "a number above 0", value)
        _require(
            self.nproc is None or ":" not in self.device,
            "device",
            "auto, cpu or cuda with --nproc, since each process takes the GPU of its own number",
            self.device,
        )
        if self.seeds is not None and self.nproc is not None:
            raise ArgumentError(
                "--seeds trains in this process, one run after the other. Leave out --nproc, or start each "
                "seed separately (--seed K --nproc N)"
            )
        if self.seeds is not None and self.resume not in (None, "auto"):
            raise ArgumentError(
                "--resume with --seeds must be auto: every seed has its own checkpoint. "
                f"Found: {self.resume!r}"
            )


OPTION_NAMES = tuple(field.name for field in fields(Options))


def check_options(options: Options, config: TrainConfig) -> None:
    """Raise ArgumentError if the options do not fit the run."""
    last = options.extrapolate_from
    if last is None:
        return
    _require(
        2 <= last < config.epochs,
        "extrapolate_from",
        f"at least 2, since the first epoch's time is not used, and below the run's {config.epochs} epochs",
        last,
    )
    if config.early_stopping is not None:
        raise ArgumentError(
            "--extrapolate-from trains a given number of epochs, and --early-stopping may end sooner. Leave "
            "out one of them"
        )
    if config.progressive_resizing is not None:
        raise ArgumentError(
            "--extrapolate-from assumes that all epochs take equally long, but with progressive_resizing the "
            "first ones are the fastest. Train in full, or give --progressive-resizing null"
        )


def _require(ok: bool, name: str, allowed: str, found: object) -> None:
    if not ok:
        raise ArgumentError(f"--{name.replace('_', '-')} must be {allowed}. Found: {found!r}")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A parsed command line: `explicit` holds the dotted keys set by the user."""

    config: TrainConfig
    explicit: frozenset[str]
    recipe_batch_size: int
    print_config: bool = False
    list_recipes: bool = False
    options: Options = field(default_factory=Options)
