"""What the profiler predicts for the machines of published tables, beside what was published.

    python benchmarks/profiling_literature.py FOLDER [--seconds 2] [--json FILE]

FOLDER is a plain folder of classes like ImageNet's photos. Measured here: CPU-ms per image of torch's way
(decode, crop, resize, to float by Pillow in a worker) at 224 and 176 pixels, one operation of RandAugment on
the crop, and FFCV's where it is installed. Inputs from elsewhere: the GPU rate and the vendors' core counts,
see docs/profiling-literature.md. One free number, how many of these CPUs one of theirs is worth, is set by
one published rate; everything else is then predicted. Ratios are what is compared.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torchvision import transforms as T

from fastpipe.decode import decode_rgb
from fastpipe.profiling.conclude.demand import published
from fastpipe.profiling.host.summary import OtherLoad, describe_host
from fastpipe.profiling.measure.inputs import fetch
from fastpipe.profiling.measure.timing import measure
from fastpipe.profiling.measure.variants import Variant, beton_of, make_loader, unavailable
from fastpipe.profiling.measure.workload import transform_of

# Physical cores, as cited in docs/profiling-literature.md. Assumptions: the tables' text gives none.
CORES = {"oracle": 64.0, "aws": 48.0}


def costs(folder: str, size: int, seconds: float) -> dict[str, float]:
    """CPU-ms per image at this size: torch's worker, RandAugment of one operation, FFCV."""
    transform, plan = transform_of(size)
    inputs = fetch(folder, plan, seconds=5.0, quick=True)
    files = [(sample.data, sample.path) for sample in inputs.samples]

    def worker() -> int:
        for data, path in files:
            transform(decode_rgb(data, path))
        return len(files)

    policy = T.RandAugment(num_ops=1, magnitude=9)

    def randaugment() -> int:
        for sample in inputs.samples:
            policy(sample.crop)
        return len(files)

    torch.manual_seed(0)
    found = {
        "worker": measure(worker, seconds).cpu_ms.median,
        "randaugment": measure(randaugment, seconds).cpu_ms.median,
    }
    if unavailable("ffcv", plan, beton=True) is None:
        with ExitStack() as stack:
            path, _ = stack.enter_context(beton_of(inputs, max_resolution=500))
            variant = Variant(workers=1, backend="ffcv", beton=path)
            layout = torch.contiguous_format
            loader = make_loader(
                inputs, transform, variant, batch_size=32, batches=3, memory_format=layout, engine="none"
            )

            def ffcv() -> int:
                return sum(len(batch[0]) for batch in loader)

            found["ffcv"] = measure(ffcv, seconds, tree=True, warm_up=2).cpu_ms.median
    return found


def table2(cost: dict[str, float]) -> list[dict[str, Any]]:
    """Throughput by RandAugment depth, relative to depth 0.

    The free number: depth 1 is limited by the CPUs and has its published rate. Depth 0 is min(GPU, CPUs).
    """
    rates = {row.randaugment_depth: row.images_per_s for row in published() if row.recipe == "nvidia_hparams"}
    budget = rates[1] * (cost["worker"] + cost["randaugment"])
    rows = []
    for depth, rate in sorted(rates.items()):
        by_cpus = budget / (cost["worker"] + depth * cost["randaugment"])
        predicted = min(rates[0], by_cpus)
        rows.append(
            {
                "case": f"RandAugment depth {depth}",
                "predicted": predicted / min(rates[0], budget / cost["worker"]),
                "published": rate / rates[0],
            }
        )
    return rows


def table3(cost: dict[str, float]) -> list[dict[str, Any]]:
    """AWS over Oracle. Free number: Hot on Oracle has its published rate by its CPUs.

    Hot decodes by Pillow with RandAugment in the workers; Mild reads by FFCV. Mild on Oracle gives the GPUs'.
    """
    rates = {row.name: row.images_per_s for row in published()}
    hot = cost["worker"] + cost["randaugment"]
    per_core = rates["hot-oracle"] * hot / CORES["oracle"]
    predicted = {
        system: {
            "hot": min(rates["mild-oracle"], per_core * cores / hot),
            "mild": min(rates["mild-oracle"], per_core * cores / cost["ffcv"]) if "ffcv" in cost else None,
        }
        for system, cores in CORES.items()
    }
    rows = []
    for recipe in ("hot", "mild"):
        aws, oracle = predicted["aws"][recipe], predicted["oracle"][recipe]
        rows.append(
            {
                "case": f"{recipe}, AWS / Oracle",
                "predicted": None if aws is None or oracle is None else aws / oracle,
                "published": rates[f"{recipe}-aws"] / rates[f"{recipe}-oracle"],
            }
        )
    return rows


def main() -> None:
    """Measure, predict, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    others = OtherLoad()
    found = {size: costs(args.folder, size, args.seconds) for size in (224, 176)}
    rows = [*table2(found[224]), *table3(found[176])]
    for size, cost in found.items():
        print(size, {name: round(value, 3) for name, value in cost.items()})
    for row in rows:
        shown = "-" if row["predicted"] is None else f"{row['predicted']:.2f}"
        print(f"| {row['case']} | {shown} | {row['published']:.2f} |")
    print(f"other processes took {others.share():.0%} of the CPUs")
    if args.json:
        values = {"host": describe_host(), "other_load": others.share(), "costs": found, "rows": rows}
        Path(args.json).write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
