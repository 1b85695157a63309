"""The groups of a recipe's keys, as frozen values: how weights move, what is minimised, which methods act.

On creation, each group rejects values that are wrong whatever the others hold, and names the recipe's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastpipe.train.augment import policy_spec
from fastpipe.train.config.checks import check_choices, require

Task = Literal["classes", "multi-label", "regression"]
"""What a label is: one class; 0 or 1 for each label; one number or several."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """The columns of a list of images: a .csv, .jsonl or .parquet file."""

    path: str = "path"
    """The column with the paths of the images."""
    label: str = "label"
    """The column with the labels, or several columns with commas in between."""
    split: str = "split"
    """The column that says train, val or test, if there is one."""
    separator: str | None = None
    """What separates several names in a cell of the label column, such as |."""

    def __post_init__(self) -> None:
        for name in ("path", "split"):
            require(bool(getattr(self, name)), f"table.{name}", "the name of a column", getattr(self, name))
        columns = self.labels
        different = all(columns) and len(set(columns)) == len(columns)
        require(different, "table.label", "the names of different columns", self.label)
        require(self.separator != "", "table.separator", "at least one character, or null", self.separator)
        require(
            self.separator is None or len(columns) == 1,
            "table.separator",
            "null where table.label names several columns",
            self.separator,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns."""
        return tuple(part.strip() for part in self.label.split(","))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move."""

    name: Literal["sgd", "adamw", "lamb", "lars"] = "sgd"
    """sgd: with momentum, not Nesterov. adamw: torch's. lamb, lars: timm's. The first beta is `momentum`."""
    lr: float = 2.048
    """The peak of the schedule, for `batch_size`."""
    momentum: float = 0.875
    """Momentum of SGD and LARS; the first beta of AdamW and LAMB."""
    beta2: float = 0.999
    """The second beta of AdamW and LAMB: how slowly the mean of squared gradients moves."""
    weight_decay: float = 5e-4
    """Strength of the weight decay; 0 is off."""
    decoupled_weight_decay: bool = True
    """sgd. true: weights *= 1 - (lr / peak) * weight_decay. false: weight_decay * weights joins the
    gradient."""
    weight_decay_on_norm: bool = True
    """false: no decay of normalisation layers, of other scales (one dimension), or of position embeddings and
    tokens."""
    weight_decay_on_bias: bool = True
    """false: the biases of all other layers are not decayed."""
    layer_decay: float = 1.0
    """Each layer's rate is this times that of the next one, and the classifier has lr; 1 is off."""

    def __post_init__(self) -> None:
        check_choices(self, "optimizer.")
        require(self.lr > 0.0, "optimizer.lr", "above 0", self.lr)
        for name in ("momentum", "beta2"):
            require(0.0 <= getattr(self, name) < 1.0, f"optimizer.{name}", "in [0, 1)", getattr(self, name))
        require(0.0 <= self.weight_decay < 1.0, "optimizer.weight_decay", "in [0, 1)", self.weight_decay)
        require(0.0 < self.layer_decay <= 1.0, "optimizer.layer_decay", "in (0, 1]", self.layer_decay)
        require(
            self.name == "sgd" or not self.decoupled_weight_decay,
            "optimizer.decoupled_weight_decay",
            f"false for {self.name}, which has its own decay",
            self.decoupled_weight_decay,
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves."""

    name: Literal["cosine", "linear", "polynomial"] = "cosine"
    """The decay after the warmup, down to min_lr; polynomial: the square of the linear one."""
    warmup_epochs: float = 8.0
    """Length of the linear warmup. schedule_scale does not change it."""
    warmup_start: float = 0.0
    """The warmup's first rate as a share of the peak."""
    resolution: Literal["step", "epoch"] = "step"
    """epoch: every step of an epoch has the rate of the first one."""
    min_lr: float = 0.0
    """The rate at the end of training."""

    def __post_init__(self) -> None:
        check_choices(self, "schedule.")
        require(self.warmup_epochs >= 0.0, "schedule.warmup_epochs", ">= 0", self.warmup_epochs)
        require(0.0 <= self.warmup_start <= 1.0, "schedule.warmup_start", "in [0, 1]", self.warmup_start)
        require(self.min_lr >= 0.0, "schedule.min_lr", "in [0, optimizer.lr]", self.min_lr)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    name: Literal["bce", "cross_entropy", "mse", "l1"] = "bce"
    """bce: binary cross-entropy over dense targets. mse, l1: the squared or absolute error, of numbers."""
    reduction: Literal["sum", "mean"] = "sum"
    """How bce combines the classes: sum as in Composer, mean as in timm. Both average over the batch."""
    bias_init: bool = True
    """Start the classifier's bias at -log(classes)."""
    label_smoothing: float = 0.0
    """The share of each target that is spread over all classes."""
    label_smoothing_mixup: Literal["both", "composer"] = "both"
    """Mixed labels. both: smooth after mixing. composer: smooth the image's own, keep its partner's hard."""

    def __post_init__(self) -> None:
        check_choices(self, "loss.")
        require(0.0 <= self.label_smoothing < 1.0, "loss.label_smoothing", "in [0, 1)", self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class EMAConfig:
    """The averaged weights used for evaluation."""

    half_life_batches: int = 100
    """The number of steps after which old weights count half."""
    update_interval: int = 20
    """Steps between two updates of the average."""
    reset_during_warmup: bool = False
    """true: every update in the warmup, and the first after it, copies the weights, as in torchvision."""

    def __post_init__(self) -> None:
        for name in ("half_life_batches", "update_interval"):
            require(getattr(self, name) >= 1, f"ema.{name}", "at least 1", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ProgressiveResizingConfig:
    """Small images first."""

    kind: Literal["composer", "ffcv"] = "composer"
    """composer: per step, by fractions of training. ffcv: per epoch, from start_epoch to end_epoch."""
    where: Literal["decoder", "device"] = "decoder"
    """decoder: one resize, directly from the crop to the step's size. device: decode at the full size and
    resize (nearest) after RandAugment and ColOut, in Composer's order; kind composer only."""
    initial_scale: float = 0.5
    """The first size as a share of train_resolution."""
    delay_fraction: float = 0.4
    """composer: the share of training at the first size."""
    finetune_fraction: float = 0.2
    """composer: the share of training, at its end, at the full size."""
    size_increment: int = 4
    """composer: sizes are multiples of this number of pixels."""
    start_epoch: float = 0.0
    """ffcv: the last epoch at the initial size."""
    end_epoch: float = 0.0
    """ffcv: the first epoch at the full size."""

    def __post_init__(self) -> None:
        check_choices(self, "progressive_resizing.")
        name = "progressive_resizing"
        require(0.0 < self.initial_scale <= 1.0, f"{name}.initial_scale", "in (0, 1]", self.initial_scale)
        for share in ("delay_fraction", "finetune_fraction"):
            require(0.0 <= getattr(self, share) <= 1.0, f"{name}.{share}", "in [0, 1]", getattr(self, share))
        both = self.delay_fraction + self.finetune_fraction
        require(both <= 1.0, f"{name}.delay_fraction + finetune_fraction", "at most 1", both)
        if self.kind == "ffcv":
            self._check_ramp(name)
        require(
            self.size_increment >= 4 and self.size_increment % 4 == 0,
            f"{name}.size_increment",
            "a multiple of 4",
            self.size_increment,
        )

    def _check_ramp(self, name: str) -> None:
        require(
            self.where == "decoder",
            f"{name}.where",
            "decoder for kind ffcv, which resizes there",
            self.where,
        )
        require(
            0.0 <= self.start_epoch < self.end_epoch,
            f"{name}.start_epoch",
            f"at least 0 and below end_epoch ({self.end_epoch:g})",
            self.start_epoch,
        )


@dataclass(frozen=True, kw_only=True)
class SAMConfig:
    """Sharpness-aware minimisation: the last of every `interval` steps has two passes."""

    rho: float = 0.5
    """How far the first pass climbs."""
    interval: int = 1
    """1: every step; 10: one step in ten."""

    def __post_init__(self) -> None:
        require(self.rho > 0.0, "sam.rho", "above 0", self.rho)
        require(self.interval >= 1, "sam.interval", "at least 1", self.interval)


@dataclass(frozen=True, kw_only=True)
class StochasticDepthConfig:
    """Residual branches left out at random, deeper ones more often."""

    drop_rate: float = 0.1
    """The drop rate of the last block."""
    kind: Literal["composer", "timm"] = "composer"
    """timm divides the kept branches by 1 - rate in training; composer weights them in evaluation."""

    def __post_init__(self) -> None:
        check_choices(self, "stochastic_depth.")
        require(0.0 <= self.drop_rate < 1.0, "stochastic_depth.drop_rate", "in [0, 1)", self.drop_rate)


@dataclass(frozen=True, kw_only=True)
class RandAugmentConfig:
    """Random operations per image; null means the default of the space."""

    space: Literal[
        "composer",
        "composer-original",
        "composer-safe",
        "timm",
        "torchvision",
        "torchvision_v2",
        "trivial",
    ] = "composer"
    """The library whose operations and strengths are used; trivial: TrivialAugmentWide."""
    depth: int = 1
    """Operations per image."""
    severity: float | None = None
    """composer: strength of the operations, 0..10."""
    magnitude: float | None = None
    """Strength of the operations. timm: 0..mmax. torchvision: a whole number, 0..30."""
    p: float | None = None
    """timm: the probability of each operation."""
    mstd: float | None = None
    """timm: the standard deviation of the magnitude."""
    mmax: float | None = None
    """timm: the largest magnitude."""
    increasing: bool | None = None
    """timm: the variant whose operations all grow with the magnitude."""
    interpolation: Literal["nearest", "bilinear"] | None = None
    """Interpolation of the operations that move pixels."""

    def __post_init__(self) -> None:
        check_choices(self, "randaugment.")
        policy_spec(self)  # refuses a setting that the space does not have
