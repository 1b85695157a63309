"""`fastpipe-profile compare [DATA]`: what an image costs on a CPU of this machine, step by step."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torchvision import transforms as T

from fastpipe.errors import ArgumentError, FastpipeError
from fastpipe.profiling.commands.terminal import Outcome, print_table, status
from fastpipe.profiling.host.summary import OtherLoad, describe_host
from fastpipe.profiling.measure.details import device_unit
from fastpipe.profiling.measure.inputs import Inputs, fetch
from fastpipe.profiling.measure.stages import packed
from fastpipe.profiling.measure.timing import Timing, measure
from fastpipe.profiling.measure.variants import Variant, beton_of, make_loader, unavailable
from fastpipe.profiling.measure.workload import transform_of
from fastpipe.transforms import merge
from fastpipe.transforms.step_table import timed_steps
from fastpipe.types import Plan

SCHEMA_VERSION = 1

_BATCH = 32
_WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """CPU-ms per image of one step with one library; `reason` says why it is missing."""

    step: str
    by: str
    timing: Timing | None
    reason: str = ""


def run(args: argparse.Namespace) -> Outcome:
    """Time every price."""
    if not 0.0 < args.seconds <= 600.0 or args.resolution < 1:
        raise ArgumentError(
            "seconds must be above 0 and at most 600, resolution at least 1. "
            f"Found: {args.seconds!r}, {args.resolution!r}"
        )
    others = OtherLoad()
    transform, plan = transform_of(args.resolution)
    inputs = fetch(args.data, plan, seconds=max(1.0, args.seconds), quick=True)
    prices = []
    with status("price list") as announce:
        for price in price_list(inputs, transform, plan, args.seconds):
            prices.append(price)
            announce(f"{price.step} by {price.by} is done")
    share = others.share()
    values = {
        "schema": "fastpipe-prices",
        "schema_version": SCHEMA_VERSION,
        "host": describe_host(),
        "data": {"name": args.data, **inputs.describe()},
        "resolution": args.resolution,
        "prices": [_values(price) for price in prices],
    }
    return Outcome(values=values, show=lambda console: _render(prices, inputs, args, console, share))


def _values(price: Price) -> dict[str, Any]:
    cpu = None if price.timing is None else asdict(price.timing.cpu_ms)
    repeats = 0 if price.timing is None else price.timing.repeats
    row = {"step": price.step, "by": price.by, "cpu_ms_per_image": cpu, "repeats": repeats}
    return {**row, "reason": price.reason}


def price_list(inputs: Inputs, transform: Any, plan: Plan, seconds: float) -> Iterator[Price]:
    """The prices, one by one as they are timed."""
    with ExitStack() as stack:
        yield from _loader_prices(inputs, transform, plan, seconds, stack)
    batch = packed(inputs, _BATCH)
    device = torch.device("cpu")
    for name, make in _pillow(inputs).items():
        yield Price(step=name, by="torchvision on Pillow, in workers", timing=measure(make, seconds))
    for engine in ("fused", "torch", "kornia"):
        for name, spec in ((_PLAIN, None), *timed_steps().items()):
            steps = plan if spec is None else merge(plan, [spec])
            yield _engine_price(name, engine, steps, batch, device, inputs, seconds)


_PLAIN = "flip + normalise"


def _loader_prices(
    inputs: Inputs, transform: Any, plan: Plan, seconds: float, stack: ExitStack
) -> Iterator[Price]:
    """Read, decode, crop, resize and pack, with no device stage, in one worker: the whole process tree."""
    step = "read + decode + crop + resize"
    path, _ = stack.enter_context(beton_of(inputs))
    rows = (
        ("torchvision, folder", Variant(workers=1)),
        ("torchvision, .beton", Variant(workers=1, beton=path)),
        ("turbo, folder", Variant(workers=1, backend="turbo")),
        ("turbo, .beton", Variant(workers=1, backend="turbo", beton=path)),
        ("dali, folder", Variant(workers=1, backend="dali")),
        ("dali, .beton", Variant(workers=1, backend="dali", beton=path)),
        ("ffcv, .beton", Variant(workers=1, backend="ffcv", beton=path)),
    )
    for by, variant in rows:
        if reason := unavailable(variant.backend, plan, beton=variant.beton is not None):
            yield Price(step=step, by=by, timing=None, reason=reason)
            continue
        unit = _loader_unit(inputs, transform, variant)
        yield Price(step=step, by=by, timing=measure(unit, seconds, tree=True, warm_up=_WARM_UP))


def _loader_unit(inputs: Inputs, transform: Any, variant: Variant) -> Callable[[], int]:
    loader = make_loader(
        inputs,
        transform,
        variant,
        batch_size=_BATCH,
        batches=max(2, len(inputs.samples) // _BATCH),
        memory_format=torch.contiguous_format,
        engine="none",
    )
    return lambda: sum(len(batch[0]) for batch in loader)


def _pillow(inputs: Inputs) -> dict[str, Callable[[], int]]:
    """torchvision's transforms on the crops, image by image, as torch's workers run them."""
    to_float = T.Compose([T.ToTensor(), T.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))])
    steps: dict[str, Any] = {
        _PLAIN: T.Compose([T.RandomHorizontalFlip(), to_float]),
        "RandAugment": T.Compose([T.RandAugment(num_ops=1, magnitude=9), T.RandomHorizontalFlip(), to_float]),
        "TrivialAugmentWide": T.Compose([T.TrivialAugmentWide(), T.RandomHorizontalFlip(), to_float]),
    }

    def unit_of(step: Any) -> Callable[[], int]:
        def unit() -> int:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                for sample in inputs.samples:
                    step(sample.crop)
            return len(inputs.samples)

        return unit

    return {name: unit_of(step) for name, step in steps.items()}


def _engine_price(
    name: str, engine: Any, plan: Plan, batch: Any, device: torch.device, inputs: Inputs, seconds: float
) -> Price:
    by = f"fastpipe engine {engine}, whole batch"
    try:
        unit = device_unit(plan, batch, device, inputs, engine=engine)
        return Price(step=name, by=by, timing=measure(unit, seconds))
    except FastpipeError as error:
        return Price(step=name, by=by, timing=None, reason=str(error).splitlines()[0])


def _render(
    prices: Sequence[Price], inputs: Inputs, args: argparse.Namespace, console: Console, share: float
) -> None:
    table = Table(title=f"CPU-ms per image at {args.resolution} pixels, {args.data}", title_justify="left")
    for column in ("step", "by"):
        table.add_column(column)
    for column in ("CPU-ms", "quartiles", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for price in prices:
        if price.timing is None:
            table.add_row(price.step, price.by, "-", price.reason[:40], "")
            continue
        cpu = price.timing.cpu_ms
        spread = f"{cpu.low:.3g}-{cpu.high:.3g}"
        table.add_row(price.step, price.by, f"{cpu.median:.3g}", spread, str(price.timing.repeats))
    print_table(console, table)
    found = inputs.describe()
    note = (
        f"{found['sampled']} files, median {found['median_pixels'] / 1e6:.3g} megapixels. "
        "Augmentations include flip and normalise. Loaders: 1 worker, engine none, process tree. "
        f"Other processes took {share:.0%} of the CPUs during the measurement."
    )
    console.print(note, markup=False, highlight=False)
