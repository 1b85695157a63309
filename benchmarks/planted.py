"""The profiler on work of known cost: does it name it, time it, and foretell what its removal brings?

    python benchmarks/planted.py FOLDER [--repeats 5] [--planted-ms 8] [--neighbour] [--json FILE]

FOLDER is a plain folder of classes. A cost is planted in turn into read (burnt, and slept as a slow disk
does), decode, crop+resize and batch assembly, in the stage alone and in the loader's workers; and a model of
known rate behind the loader. For each: the stage the verdict names; the stage's CPU-ms (wall-ms where it
sleeps) above that without the plant, over the planted ms; the predicted over the measured gain of removing
it. Gains are of CPU-ms per image of the whole process tree, or of images/s where the plant sleeps.
--neighbour: twice as many processes as CPUs decode meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from fastpipe.batch import worker
from fastpipe.profiling.conclude.verdict import Measured, StageCost, judge
from fastpipe.profiling.host.summary import OtherLoad, describe_host
from fastpipe.profiling.measure import stages
from fastpipe.profiling.measure.differential import Paced
from fastpipe.profiling.measure.inputs import Inputs, fetch
from fastpipe.profiling.measure.interference import busy
from fastpipe.profiling.measure.setting import cost_of
from fastpipe.profiling.measure.stages import StageResult, loader_stages, overhead, whole_host_half
from fastpipe.profiling.measure.together import time_variants, time_with_model
from fastpipe.profiling.measure.variants import Variant, make_loader
from fastpipe.profiling.measure.workload import transform_of
from fastpipe.storage import files_leaf
from fastpipe.system.cgroups import usable_cpus

SIZE, BATCH, SECONDS, FAR = 64, 16, 0.25, 1e6
PLANTS = {
    "read (dataset)": ("read", "read", False),
    "read (slow disk)": ("read", "read", True),
    "decode": ("decode_rgb", "decode", False),
    "crop+resize (transform)": ("crop_and_resize", "crop+resize", False),
    "batch assembly (collate)": ("pixels", "batch assembly", False),
}


def spend(ms: float, sleeps: bool) -> None:
    """Burn CPU of the calling process, or sleep."""
    if sleeps:
        time.sleep(ms / 1000)
        return
    end_s = time.process_time() + ms / 1000
    while time.process_time() < end_s:
        pass


@contextmanager
def planted(function: str, ms: float, sleeps: bool) -> Iterator[None]:
    """`function` costs `ms` more, in the stage alone and in the workers, which are forked."""
    places = [place for place in (stages, worker, files_leaf) if hasattr(place, function)]
    real = [getattr(place, function) for place in places]

    def slow(*args: Any) -> Any:
        spend(ms, sleeps)
        return real[0](*args)

    for place in places:
        setattr(place, function, slow)
    try:
        yield
    finally:
        for place, function_was in zip(places, real, strict=True):
            setattr(place, function, function_was)


def measure_all(inputs: Inputs, transform: Any, plan: Any) -> tuple[list[StageResult], StageResult]:
    """The stages alone, and the loader with 1 worker."""
    cpu = torch.device("cpu")
    layout = torch.contiguous_format
    makers = loader_stages(inputs, plan, batch_size=BATCH, workers=1, device=cpu, memory_format=layout)
    found = [make().time(SECONDS) for make in makers]
    rest = overhead(whole_host_half(inputs, plan, BATCH).time(SECONDS), found)
    loaders = time_variants(
        inputs,
        transform,
        {"loader": Variant(workers=1)},
        batch_size=BATCH,
        rate=80.0,
        window_s=0.6,
        workers=1,
        device=cpu,
        repeats=3,
        memory_format=layout,
    )
    return [*found, *([] if rest is None else [rest])], loaders["loader"]


def judged(found: list[StageResult], model_rate: float) -> str:
    """The bottleneck that the verdict names."""
    costs = [cost_of(stage, gpu=False) for stage in found]
    model = StageCost(name="model step", lane="model", wall_ms=1000 / model_rate, cpu_ms=0.0)
    return judge([*costs, model], cpus=usable_cpus(), workers=1, gpu=True, measured=Measured()).bottleneck


def total(found: list[StageResult], sleeps: bool) -> float:
    """ms per image of the stages: CPU of all, or the worker's wall time."""
    if sleeps:
        return sum(stage.timing.wall_ms for stage in found if stage.lane == "worker")
    return sum(stage.timing.cpu_ms.median for stage in found)


def one_stage(inputs: Inputs, transform: Any, plan: Any, name: str, ms: float) -> dict[str, Any]:
    """Plant it, measure, take it out, measure again."""
    function, stage_name, sleeps = PLANTS[name]
    with planted(function, ms, sleeps):
        slow, slow_loader = measure_all(inputs, transform, plan)
    plain, plain_loader = measure_all(inputs, transform, plan)

    def cost(found: list[StageResult]) -> float:
        (timing,) = (stage.timing for stage in found if stage.name == stage_name)
        return timing.wall_ms if sleeps else timing.cpu_ms.median

    def loader_ms(result: StageResult) -> float:
        return result.timing.wall_ms if sleeps else result.timing.cpu_ms.median

    # What the profiler can know before the removal: the loader as it is, and its stages with and without.
    removed = total(slow, sleeps) - cost(slow)
    # The stage keeps what it costs by itself, which the planted part is on top of.
    kept = cost(plain)
    predicted = total(slow, sleeps) / (removed + kept)
    measured = loader_ms(slow_loader) / loader_ms(plain_loader)
    return {
        "plant": name,
        "named": judged(slow, FAR),
        "right": judged(slow, FAR) == stage_name,
        "time_ratio": (cost(slow) - kept) / ms,
        "predicted_gain": predicted,
        "measured_gain": measured,
        "gain_ratio": predicted / measured,
    }


def model(inputs: Inputs, transform: Any, plan: Any, ms: float) -> dict[str, Any]:
    """A consumer of a known rate, slower than the loader; without it the loader's own rate is left."""
    ms *= 10
    found, loader = measure_all(inputs, transform, plan)
    endless = make_loader(
        inputs,
        transform,
        Variant(workers=1),
        batch_size=4,
        batches=10_000,
        memory_format=torch.contiguous_format,
    )
    together = time_with_model(endless, Paced(1000 / ms), batch_size=4, seconds=1.0, window=2)
    rate = together.timing.images_per_s.median
    predicted = ms / loader.timing.wall_ms
    return {
        "plant": "model",
        "named": judged(found, 1000 / ms),
        "right": judged(found, 1000 / ms) == "model step",
        "time_ratio": 1000 / rate / ms,
        "predicted_gain": predicted,
        "measured_gain": loader.timing.images_per_s.median / rate,
        "gain_ratio": predicted / (loader.timing.images_per_s.median / rate),
    }


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All plants, `repeats` times each, in turn."""
    transform, plan = transform_of(SIZE)
    inputs = fetch(args.folder, plan, seconds=2.0, quick=True)
    files = [sample.data for sample in inputs.samples]
    noise: Callable[[], Any] = nullcontext
    if args.neighbour:
        noise = lambda: busy(files, 1.0, 2 * round(usable_cpus()))  # noqa: E731
    rows = []
    for turn in range(args.repeats):
        for name in (*PLANTS, "model"):
            with noise():
                row = (
                    model(inputs, transform, plan, args.planted_ms)
                    if name == "model"
                    else one_stage(inputs, transform, plan, name, args.planted_ms)
                )
            rows.append({"turn": turn, **row})
            print(rows[-1], flush=True)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Medians and quartiles, as in the record."""
    heads = ("plant", "named right", "time found / planted", "predicted gain", "measured gain")
    print(f"| {' | '.join((*heads, 'predicted / measured'))} |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["plant"] for row in rows):
        some = [row for row in rows if row["plant"] == name]
        cells = []
        for key in ("time_ratio", "predicted_gain", "measured_gain", "gain_ratio"):
            values = sorted(row[key] for row in some)
            cells.append(f"{statistics.median(values):.3g} ({values[0]:.3g} to {values[-1]:.3g})")
        print(f"| {name} | {sum(row['right'] for row in some)} of {len(some)} | {' | '.join(cells)} |")


def main() -> None:
    """Run and print; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--planted-ms", type=float, default=8.0)
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    others = OtherLoad()
    rows = run(args)
    show(rows)
    print(f"other processes took {others.share():.0%} of the CPUs")
    if args.json:
        values = {"host": describe_host(), "other_load": others.share(), "rows": rows}
        Path(args.json).write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
