"""The cases of scripts/same-bytes, one per line. Names are public ones, so that they exist before and after a
move of the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BATCHES",
    "CHECKPOINT_RECIPE",
    "COMMANDS",
    "RECIPES",
    "STEPS",
    "WRITES",
    "Case",
    "Step",
    "growing",
]

Step = Callable[[Any], Any]
"""An augmentation, made from the module fastpipe.augment."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two epochs of one loader.

    data: photos, odd or broken, as a folder or with ".beton", or a name of same_data.DATASETS.
    transform: a name of same_data.TRANSFORMS. options: of the loader; sampler is the name of a class of
    fastpipe, and settings.
    state: also saved after a few batches, and continued from there.
    """

    name: str
    data: str
    transform: str = "crop"
    steps: Sequence[Step] = ()
    state: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def case(
    name: str,
    data: str,
    transform: str = "crop",
    steps: Sequence[Step] = (),
    state: bool = False,
    **options: Any,
) -> Case:
    """A case with seed=17, unless another is given."""
    options = {"seed": 17, "shuffle": True, "backend": "torchvision", **options}
    return Case(name=name, data=data, transform=transform, steps=steps, state=state, options=options)


def step(name: str, *values: Any, **settings: Any) -> Step:
    """`fastpipe.augment.NAME(...)`."""
    return lambda augment: getattr(augment, name)(*values, **settings)


def either(*options: Step) -> Step:
    """One of the mixes, drawn for each batch."""
    return lambda augment: augment.RandomChoice([option(augment) for option in options])


def growing(epoch: int, batch: int) -> int:
    """The resolution of a batch."""
    return 48 + 16 * epoch + 4 * (batch % 3)


RAND_AUGMENT, COLOUT, MIXUP = step("RandAugment"), step("ColOut"), step("MixUp", 0.25)
HOT = (step("RandAugment", depth=2), COLOUT, MIXUP)
CUTMIX, ERASING = step("CutMix", 1.0), step("RandomErasing", p=0.5)
AUGMENTATIONS: Mapping[str, tuple[Step, ...]] = {
    "no augmentation": (),
    "RandAugment": (RAND_AUGMENT,),
    "RandAugment composer-original": (step("RandAugment", space="composer-original", depth=2),),
    "RandAugment composer-safe": (step("RandAugment", space="composer-safe", depth=2),),
    "RandAugment timm": (step("RandAugment", space="timm", mstd=0.5, increasing=True),),
    "RandAugment torchvision": (step("RandAugment", space="torchvision", num_ops=4, magnitude=18),),
    "RandAugment torchvision_v2": (step("RandAugment", space="torchvision_v2", num_ops=4, magnitude=18),),
    "timm_rand_augment": (step("timm_rand_augment", "rand-m7-mstd0.5-inc1"),),
    "TrivialAugmentWide": (step("TrivialAugmentWide"),),
    "TrivialAugmentWide v2": (step("TrivialAugmentWide", space="torchvision_v2", interpolation="bilinear"),),
    "ColOut": (COLOUT,),
    "MixUp": (MIXUP,),
    "CutMix": (CUTMIX,),
    "MixUp or CutMix": (either(MIXUP, CUTMIX),),
    "Resize": (step("Resize", 40),),
    "Resize, two taps": (step("Resize", (40, 52), antialias=False),),
    "Resize nearest": (step("Resize", 40, interpolation="nearest"),),
    "Resize nearest-exact": (step("Resize", 40, interpolation="nearest-exact"),),
    "RandomErasing": (ERASING,),
    "all": (*HOT, step("Resize", 56), ERASING),
}
OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "channels_last": {"memory_format": "channels_last"},
    "bfloat16 channels_last": {"dtype": "bfloat16", "memory_format": "channels_last"},
}
ENGINES = ("fused", "torch")
# Backend, and what it reads.
READS = (
    *(("torchvision", data) for data in ("photos", "photos.beton", "odd", "mixed", "subset", "image folder")),
    *(("dali", data) for data in ("photos", "photos.beton", "odd", "mixed")),
    *(("ffcv", data) for data in ("photos.beton", "odd.beton")),
)
BROKEN = (
    *(("torchvision", "broken"), ("dali", "broken")),
    *((backend, "damaged.beton") for backend in ("torchvision", "dali", "ffcv")),
)

SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "DistributedSampler": {},
    "DistributedEvalSampler": {},
    "RepeatAugSampler": {},
    "PageLocalSampler": {"window": 2, "block": 8},
}


def read(backend: str, data: str, numerics: str, workers: int) -> Case:
    """A backend's results on data, with every kind of augmentation if the pixels are exact."""
    steps, state = (HOT, workers == 2) if numerics == "exact" else ((), workers == 0)
    options = {"backend": backend, "numerics": numerics, "num_workers": workers}
    return case(f"{backend}, {data}, {numerics}, {workers} workers", data, "crop", steps, state, **options)


BATCHES: Sequence[Case] = (
    *(read(backend, data, "exact", workers) for backend, data in READS for workers in (0, 2)),
    *(
        read(backend, data, "fast", workers)
        for backend, data in READS
        for workers in (0, 2)
        if data.startswith("photos")
    ),
    *(
        case(
            f"{backend}, validation, {numerics}", "photos.beton", "centre", backend=backend, numerics=numerics
        )
        for backend in ("torchvision", "dali", "ffcv")
        for numerics in ("exact", "fast")
    ),
    *(
        case(f"{backend}, {answer} in {data}", data, backend=backend, on_error=answer, quarantine=False)
        for backend, data in BROKEN
        for answer in ("skip", "replace")
    ),
    *(
        case(f"{engine}, {name}", "photos", steps=steps, engine=engine)
        for engine in ENGINES
        for name, steps in AUGMENTATIONS.items()
    ),
    *(
        case(f"{engine}, {name}", "photos", steps=HOT, engine=engine, **options)
        for engine in ENGINES
        for name, options in OUTPUTS.items()
    ),
    *(
        case(f"{engine}, uint8", "photos", "uint8", (RAND_AUGMENT, COLOUT), engine=engine)
        for engine in ENGINES
    ),
    case("kornia", "photos", steps=(RAND_AUGMENT,), engine="kornia"),
    *(case(f"lifted {name}", "photos", name) for name in ("bicubic", "v1 policies", "v2 policies", "padded")),
    case("growing images", "photos", steps=HOT, resolution=growing, num_workers=2, state=True),
    case("ColorJitter stays on the workers", "photos", "jitter", num_workers=2, state=True),
    *(
        case(f"{name}, seed=None, {n} workers", "photos", name, seed=None, num_workers=n)
        for name in ("crop", "jitter", "opaque")
        for n in (0, 2)
    ),
    *(
        case(f"{name}, rank 1 of 2", "photos", shuffle=None, sampler=(name, settings))
        for name, settings in SAMPLERS.items()
    ),
    case("nothing lifted", "photos", "opaque", num_workers=2, state=True),
    case("backend torch", "photos", backend="torch", state=True),
)

STEPS = 20
"""Losses of a run that are compared."""
# Not finetune: it starts from weights that a package or a hub brings.
RECIPES = (
    *("convnext", "deit", "ffcv", "hot", "hot_released", "medium", "mild", "nvidia_hparams", "nvidia_mlperf"),
    *("pytorch_blog", "timm_a1", "timm_a2", "timm_a3"),
)
CHECKPOINT_RECIPE = "hot"

# Name of the file -> data and options of fastpipe-write.
WRITES: Mapping[str, Sequence[str]] = {
    "demo": ("demo", "--split", "train"),
    "photos": ("photos", "--workers", "2"),
    "odd": ("odd",),
    "small": ("photos", "--max-resolution", "100", "--quality", "80"),
    "raw": ("odd", "--raw", "--max-resolution", "64"),
    "share": ("photos", "--proportion", "0.5", "--quality", "90", "--seed", "3"),
    "skipping": ("broken", "--on-error", "skip"),
}

COMMANDS: Sequence[Sequence[str]] = (
    ("fastpipe-train", "--help"),
    ("fastpipe-train", "--evaluate", "--help"),
    ("fastpipe-train", "--export", "--help"),
    ("fastpipe-train", "--version"),
    ("fastpipe-train", "--list-recipes"),
    ("fastpipe-train", "--print-config", "--augment", "hot"),
    ("fastpipe-train", "--randaugment.help"),
    ("fastpipe-train", "--no-such-option"),
    ("fastpipe-train", "--recipe", "nowhere"),
    ("fastpipe-train", "--data", "nowhere"),
    ("fastpipe-train",),
    ("fastpipe-profile", "--help"),
    *(("fastpipe-profile", name, "--help") for name in ("run", "diff", "compare", "host")),
    ("fastpipe-profile", "nowhere"),
    ("fastpipe-profile", "--no-such-option"),
    ("fastpipe-profile", "diff", "nowhere.json", "nowhere.json"),
    ("fastpipe-profile", "run", "nowhere.py"),
    ("fastpipe-write", "--help"),
    ("fastpipe-write", "--version"),
    ("fastpipe-write",),
    ("fastpipe-write", "nowhere", "new.beton"),
    ("fastpipe-write", "--verify", "nowhere.beton"),
    ("fastpipe-write", "--no-such-option"),
)
