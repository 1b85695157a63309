"""Print the top-1 accuracy of a finished run and fail when it is below the limit."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Exit with 0 when the run reached the limit, else with 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("summary", type=Path, help="summary.json of a run")
    parser.add_argument("--at-least", type=float, required=True, help="smallest top-1 that passes, in 0..1")
    parser.add_argument("--label", default="", help="name of the measured accuracy")
    args = parser.parse_args()
    top1 = float(json.loads(args.summary.read_text(encoding="utf-8"))["top1"])
    passed = top1 >= args.at_least
    sign = ">=" if passed else "<"
    print(f"top-1 {top1:.4f} {sign} {args.at_least} {f'({args.label})' if args.label else ''}".rstrip())
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
