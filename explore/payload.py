"""What the page gets: plain values, small enough for thousands of runs, and safe inside HTML."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote, urlencode

from fastpipe.efficiency.prices import Price, price_of
from fastpipe.explore.families import title_of
from fastpipe.explore.hardware import split_hardware
from fastpipe.explore.run import Collection, Curve, Run
from fastpipe.system.output import version

# A screen has fewer columns than a long run has epochs.
_MOST_POINTS = 200
_MOST_POINTS_IN_ALL = 400_000


def payload(
    collection: Collection,
    prices: Sequence[Price],
    *,
    serving: bool,
    created: str,
    beside: str = ".",
    dataset: str = "",
) -> dict[str, Any]:
    """The data of the page; `created` is a time in words.

    beside: the folder of the page, if it is a file. dataset: the one whose runs a new reader sees; "" and
    names of no run: that of most own runs.
    """
    runs = collection.runs
    usual = usual_settings([run.config for run in runs if run.config])
    most = min(_MOST_POINTS, max(2, _MOST_POINTS_IN_ALL // max(1, len(runs))))
    return {
        "version": version(),
        "created": created,
        "serving": serving,
        "dataset": dataset,
        "runs": [
            {**_plain(run, usual, prices, most), **_links(run, None if serving else beside)} for run in runs
        ],
        "usual": usual,
        "families": {name: title_of(name) for name in dict.fromkeys(run.family for run in runs)},
        "prices": [price.as_dict() for price in prices],
        "problems": list(collection.problems),
    }


def usual_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The most frequent value of each key that all configurations have: each run keeps what differs only."""
    keys = set(configs[0]).intersection(*configs) if configs else set()
    return {
        key: json.loads(
            Counter(json.dumps(config[key], default=str) for config in configs).most_common(1)[0][0]
        )
        for key in sorted(keys)
    }


def _plain(run: Run, usual: Mapping[str, Any], prices: Sequence[Price], most: int) -> dict[str, Any]:
    values = asdict(run)
    values["curve"] = _thinned(run.curve, most)
    values["minutes"] = {rule: _rounded(minutes) for rule, minutes in values["minutes"].items()}
    values["quality"] = _rounded(run.quality)
    del values["config"]
    values["changed"] = {key: value for key, value in run.config.items() if usual.get(key, run) != value}
    values |= split_hardware(run.hardware)._asdict()
    price = price_of(run.hardware, prices)
    values["price"] = run.price_per_hour if price is None else price.usd_per_hour
    del values["price_per_hour"]
    empty: tuple[Any, ...] = ("", None, [], (), {})
    return {key: value for key, value in values.items() if value not in empty}


def _links(run: Run, beside: str | None) -> dict[str, dict[str, str]]:
    """The addresses of a run's other pages by name: relative to the folder `beside`, or to the server's."""
    if not run.pages:
        return {}
    if beside is None:
        return {"links": {name: "page?" + urlencode({"run": run.id, "name": name}) for name in run.pages}}
    return {
        "links": {name: quote(os.path.relpath(os.path.join(run.place, name), beside)) for name in run.pages}
    }


def _rounded(value: float | None) -> float | None:
    # A mean of floats prints as 76.60000000000001.
    return None if value is None else round(value, 6)


def _thinned(curve: Curve, most: int) -> dict[str, list[float]]:
    count = len(curve.epochs)
    taken = (
        range(count) if count <= most else sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
    )
    columns = {"epochs": curve.epochs, "minutes": curve.minutes, "quality": curve.quality}
    return {name: [round(values[at], 4) for at in taken] for name, values in columns.items()} if count else {}


def as_json(values: Mapping[str, Any]) -> str:
    """JSON without a character that could end a script element."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
