"""CPU seconds of `import fastpipe` against `import torch, torchvision`, in alternating fresh interpreters.

fastpipe promises at most 1.2x. Run: .venv/bin/python -P benchmarks/import_time.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

STATEMENTS = {"torch, torchvision": "import torch, torchvision", "fastpipe": "import fastpipe"}
LIMIT = 1.2


def cpu_seconds(statement: str) -> float:
    """User and system seconds of one fresh interpreter that runs `statement`, its children included."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-P", "-c", statement], os.environ)
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{statement!r} failed")
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> dict[str, list[float]]:
    """CPU seconds per statement, one of each in every round; a first round warms the file cache."""
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for number in range(rounds + 1):
        for name, statement in STATEMENTS.items():
            seconds = cpu_seconds(statement)
            if number > 0:
                taken[name].append(seconds)
    return taken


def record(taken: dict[str, list[float]]) -> dict[str, object]:
    """The measurement in the form that benchmarks/README.md asks for."""
    base, ours = taken["torch, torchvision"], taken["fastpipe"]
    ratios = [b / a for a, b in zip(base, ours, strict=True)]
    first, _, third = statistics.quantiles(ratios, n=4)
    return {
        "what": "CPU seconds of import fastpipe / CPU seconds of import torch, torchvision",
        "command": shlex.join(["python", "-P", *sys.argv]),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("fastpipe-vision", "torch", "torchvision")},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count()},
        "n": len(ratios),
        "median_s": {name: round(statistics.median(values), 4) for name, values in taken.items()},
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(first, 4), round(third, 4)],
        "limit": LIMIT,
    }


def main() -> None:
    """Exit with 1 when the median ratio is above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="pairs that count")
    parser.add_argument("--json", type=Path, help="write the record here too")
    args = parser.parse_args()
    result = record(measure(args.rounds))
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if float(str(result["ratio_median"])) <= LIMIT else 1)


if __name__ == "__main__":
    main()
