"""What a run is, as frozen values: the keys of a recipe file and of the command line.

A recipe is data: `recipes/*.yaml` fills these classes, the command line overrides single keys. Values are
checked once, where they are made: those of a group in `groups.py`, the rest here. Whatever depends on the
data set is decided later, in `fit.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from fastpipe.errors import ArgumentError
from fastpipe.train.config.checks import check_config
from fastpipe.train.config.groups import (
    EMAConfig,
    LossConfig,
    OptimizerConfig,
    ProgressiveResizingConfig,
    RandAugmentConfig,
    SAMConfig,
    ScheduleConfig,
    StochasticDepthConfig,
    TableConfig,
    Task,
)

__all__ = ["TrainConfig"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""The usual mean and standard deviation of ImageNet's pixels, RGB in 0..1."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Built from a recipe file; see `config_from_dict`."""

    recipe: str = "custom"
    """The name of the recipe."""
    data: str | None = None
    """demo, a folder, a .beton or .csv file, or the name of a data set of torchvision (cifar10, ...)."""
    held_out: float = 0.1
    """With one .beton or .csv and no val.*: the share of each class held out to measure accuracy on."""
    table: TableConfig = field(default_factory=TableConfig)
    task: Literal["auto"] | Task = "auto"
    """auto: vectors of 0 and 1 are multi-label, numbers with fractions regression, other labels classes."""
    metric: str | None = None
    """Further metrics of a validation, with commas in between: macro-f1, rmse, r2, loss, ..."""
    best_metric: str | None = None
    """What best.ckpt and early_stopping go by; null: top-1 of classes, map of multi-label, mae of numbers."""
    early_stopping: int | None = None
    """Stop after this many epochs without a better best_metric; null: train all epochs."""
    model: str = "resnet50"
    """A name that timm.create_model knows; with a tag (resnet18.a1_in1k), it starts from those weights."""
    pretrained: bool | str = False
    """Start from pretrained weights. true: from the installed package, else timm's from their hub. package:
    from the package only. Or a file of weights: .pth, .pt, .bin or .safetensors."""
    init_from: str | None = None
    """Start from the weights of a run: its checkpoint, or a file that --export wrote, with its card."""
    freeze: int | float | Literal["backbone"] = 0
    """Layers that do not train. backbone: all but the classifier. N: the first N as timm counts them. A share
    above 0 and below 1: that part of the layers below the classifier, rounded."""
    freeze_epochs: int = 0
    """The epochs with frozen layers; after them every layer trains. 0: frozen to the end."""
    preprocessing: Literal["auto", "model", "input", "recipe"] = "auto"
    """auto: pretrained weights bring their own mean, std, interpolation and crop. model: the sizes as well.
    input: not the crop. recipe: none of these. Keys set on the command line take precedence."""
    epochs: int = 36
    """Passes over the training images."""
    batch_size: int = 2048
    """Images in a step, all processes together."""
    train_resolution: int = 176
    """The side of a training crop in pixels, a multiple of 4."""
    val_resolution: int = 224
    """The side of the centre crop in validation, in pixels."""
    val_resize: int = 232
    """The shorter side before the centre crop of val_resolution."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """The filter of every resize."""
    mean: tuple[float, float, float] = MEAN
    """The mean that is subtracted from the pixels, RGB in 0..1: [0.5, 0.5, 0.5]."""
    std: tuple[float, float, float] = STD
    """The standard deviation by which they are then divided."""
    precision: Literal["amp", "amp_bf16", "fp32"] = "amp"
    """amp: float16 with a loss scaler on CUDA, float32 on the CPU. amp_bf16: bfloat16 on both, unscaled."""
    channels_last: bool = True
    """Keep the channels of a pixel next to each other in memory, which convolutions on a GPU prefer."""
    seed: int = 42
    """The seed of the weights, the order and every random draw."""
    init: Literal["composer", "model"] = "composer"
    """composer: Kaiming normal and BatchNorm weights U(0, 1). model: as timm made them."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    mixup_alpha: float = 0.0
    """MixUp: the partner's weight is min(l, 1 - l), l ~ Beta(alpha, alpha), one per batch; 0 is off."""
    cutmix_alpha: float = 0.0
    """CutMix: the same for one box per batch; 0 is off."""
    mixup_switch_prob: float = 0.5
    """With both on: the probability of CutMix, drawn per batch."""
    randaugment: RandAugmentConfig | None = None
    colout: float = 0.0
    """The share of rows, and of columns, that every batch loses: 0.05 of 176 pixels leaves 167."""
    random_erasing: float = 0.0
    """The probability of one erased rectangle per image, after normalisation."""
    repeated_augmentation: int = 1
    """Copies of each image in an epoch, differently augmented; an epoch keeps its length."""
    blurpool: bool | Literal["ffcv"] = False
    """true: blur poolings and strided convolutions, as Composer does. ffcv: the convolutions only."""
    ema: EMAConfig | None = None
    progressive_resizing: ProgressiveResizingConfig | None = None
    sam: SAMConfig | None = None
    stochastic_depth: StochasticDepthConfig | None = None
    grad_clip: float = 0.0
    """The largest norm of all gradients together; 0 is off."""
    grad_accumulation: int = 1
    """Micro-batches per step; batch_size is their sum."""
    tta: bool = False
    """Validate on the mean logits of each image and its mirror image."""
    validate_raw: bool = False
    """With EMA: measure the raw weights after every epoch, not only the last. Doubles validation."""
    compile: bool = False
    """Compile the model, once for each resolution."""
    backend: str = "auto"
    """The loader backend; auto: let the loader choose."""
    on_error: Literal["raise", "skip", "replace"] = "raise"
    """What to do with a broken image. skip: make the batch smaller. replace: use another of its class."""
    max_bad: float = 0.01
    """The largest share of an epoch's images that may be skipped or replaced; 5 are always allowed."""
    num_workers: int | Literal["auto"] = "auto"
    """Decoding processes; auto: as many as there are usable CPUs, at most 8."""
    output_dir: str | None = None
    """The run folder; default: runs/<recipe>-<date>-<n>."""
    checkpoint_interval: str = "1ep"
    """How often a checkpoint is written: 1ep, 0.25ep, 10min. Also at the end and on SIGTERM."""
    skip_nonfinite: int = 0
    """Steps with a NaN or infinite loss to skip before the run stops. Above 0, training is slower."""
    fit_to_data: bool | Literal["auto"] = "auto"
    """Adapt batch, rate, warmup and EMA to a small data set; auto: if an epoch has fewer than 20 steps."""
    schedule_scale: float = 1.0
    """Multiplies epochs (truncated to a whole number); the warmup keeps its length."""

    def __post_init__(self) -> None:
        check_config(self)


def scale_schedule(config: TrainConfig) -> TrainConfig:
    """The run with `schedule_scale` applied: epochs times the scale, truncated; the scale becomes 1."""
    if config.schedule_scale == 1.0:
        return config
    # The small addend undoes binary rounding: int(90 * 0.7) would be 62.
    epochs = int(config.epochs * config.schedule_scale + 1e-9)
    if epochs < 1:
        raise ArgumentError(
            f"schedule_scale must be at least {1 / config.epochs:.3g} for 1 epoch. "
            f"Found: {config.schedule_scale!r}"
        )
    return replace(config, epochs=epochs, schedule_scale=1.0)
