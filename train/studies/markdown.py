"""A study's record in words and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NAMES = {"top1": "top-1 (%)", "minutes": "minutes", "images_per_s": "images/s"}
_DIGITS = {"top1": 2, "minutes": 2, "images_per_s": 0}
_WHY = {
    "by construction": " Both arms do the same work, and their rates are predicted from the numbers of cores "
    "of the published machines: the order follows from these, whatever was timed, and reproduces nothing."
}
_MINUS = "\N{MINUS SIGN}"


def as_markdown(record: Mapping[str, Any], command: str) -> str:
    """The page of a record; `command` repeats it."""
    return "\n".join([*_lines(record, command), ""])


def _lines(record: Mapping[str, Any], command: str) -> Iterator[str]:
    data, arms = record["data"], record["arms"]
    counts = ", ".join(f"{data[name]:,} {name}" for name in ("train", "validation", "test") if data.get(name))
    yield f"# {record['citation']} at scale {record['scale']}: {record['title']}"
    yield ""
    yield from _answer(record["comparisons"])
    if record["predicted"]:
        yield (
            "**The rates are predicted, not timed on GPUs:** from CPU time measured here, and one published "
            "rate that says what the published machine's CPUs are worth. Inputs: the rate of "
            f"{record['inputs'][0]} for the GPUs, and that of {record['inputs'][1]} for the CPUs."
        )
        yield ""
    yield f"Data: {data['name']} ({counts} images; {len(data['classes'])} classes). {_settings(arms)}"
    if not record["predicted"]:
        yield "Accuracy is that of the test split, read once by each run, where the data has one."
    yield ""
    yield from _arms(arms)
    yield from _comparisons(record["comparisons"])
    yield from _frontier(record["frontier"])
    yield from _times(record)
    yield from _taken(record["runs"])
    yield f"**What this scale cannot show.** {record['limits']}"
    yield ""
    yield f"Command: `{command}`"
    yield "Versions: " + ", ".join(f"{name} {value}" for name, value in record["versions"].items()) + "."
    yield "Machines: " + ("; ".join(_machine(one) for one in record["machines"]) or "not noted") + "."


def _answer(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for verdict in ("reproduced", "reversed", "not shown", "by construction"):
        of = [
            f"{one['first']} against {one['second']} in {_NAMES[one['metric']]}"
            for one in comparisons
            if one["verdict"] == verdict
        ]
        if of:
            yield f"**{verdict.capitalize()}:** {'; '.join(of)}.{_WHY.get(verdict, '')}"
            yield ""


def _settings(arms: Sequence[Mapping[str, Any]]) -> str:
    trained = [arm["config"] for arm in arms if arm["config"]]
    if not trained:
        return "No model was trained."
    model, size = trained[0]["model"], trained[0]["train_resolution"]
    return f"Model: {model} at {size} pixels, batch {trained[0]['batch_size']}."


def _arms(arms: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    shown = [name for name in _NAMES if any(name in arm["found"] or name in arm["published"] for arm in arms)]
    heads = [f"{_NAMES[name]} | published" for name in shown]
    yield f"| arm | epochs (the text's) | n | {' | '.join(heads)} |"
    yield "|---" * (3 + 2 * len(shown)) + "|"
    for arm in arms:
        counts = [one["n"] for one in arm["found"].values()]
        cells = [arm["name"], f"{arm['epochs'] or '-'} ({arm['text_epochs']})", str(max(counts, default=0))]
        for name in shown:
            cells += [_spread(arm["found"].get(name), name), _number(arm["published"].get(name), name)]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "Mean and sample standard deviation over n seeds."
    yield ""


def _spread(found: Mapping[str, Any] | None, name: str) -> str:
    if found is None:
        return "-"
    deviation = found["standard_deviation"]
    return _number(found["mean"], name) + ("" if deviation is None else f" ± {deviation:.{_DIGITS[name]}f}")


def _number(value: float | None, name: str, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''},.{_DIGITS[name]}f}".replace("-", _MINUS)


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not comparisons:
        return
    yield "| difference | of | found, 95 % | n | published | verdict |"
    yield "|---|---|---|---|---|---|"
    for one in comparisons:
        found, name = one["found"], one["metric"]
        shown = "-" if found is None else _number(found["mean"], name, sign=True)
        if found is not None and found["low"] is not None:
            ends = [_number(found[end], name, sign=True) for end in ("low", "high")]
            shown += f" ({ends[0]} to {ends[1]})"
        cells = [f"{one['first']} {_MINUS} {one['second']}", _NAMES[name], shown]
        cells += [str(found["n"] if found else 0), _number(one["published"], name, sign=True), one["verdict"]]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        "A difference is taken seed by seed; its interval is Student's, with n - 1 degrees of freedom. "
        "Reproduced or reversed: the interval leaves out 0. One comparison in twenty does so by chance."
    )
    yield ""


def _frontier(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        return
    yield "| arm | on the frontier (share of resamples) | time saved against the baseline at equal accuracy |"
    yield "|---|---|---|"
    for one in found:
        saved, text = one["saved"], "-"
        if saved is not None and saved["value"] is not None:
            ends = "" if saved["low"] is None else f" ({saved['low']:.2f} to {saved['high']:.2f})"
            text = f"{saved['value']:.2f}x{ends}"
        yield f"| {one['arm']} | {one['share']:.2f} | {text} |"
    yield ""


def _times(record: Mapping[str, Any]) -> Iterator[str]:
    both = [
        run["minutes_mlperf"] / run["values"]["minutes"]
        for run in record["runs"]
        if run["minutes_mlperf"] and run["values"].get("minutes")
    ]
    if both:
        yield (
            "Minutes follow the text's rule: without validation, the first epoch counted as the second. "
            f"MLPerf's rule, from start to stop, gives {statistics.median(both):.2f} times as much (median)."
        )
        yield ""
    if errors := record["extrapolation_errors"]:
        yield (
            f"Had the {len(errors)} longer runs been extrapolated from ten epochs, their time would be wrong "
            f"by {100 * statistics.median(errors):+.1f} % (median; {100 * min(errors):+.1f} to "
            f"{100 * max(errors):+.1f} %)."
        )
        yield ""


def _taken(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Records of earlier versions do not say whether runs are shared, and shared none."""
    homes = sorted({run["taken_from"].split("/")[0] for run in runs if run.get("taken_from")})
    if homes:
        count = sum(bool(run.get("taken_from")) for run in runs)
        yield (
            f"{count} of the {len(runs)} runs are those of {' and '.join(homes)}, which have the same "
            "settings, seeds and images."
        )
        yield ""


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine.get('processor', '?')}, {machine.get('cpus', '?')} usable CPUs{_gpu(machine)}"


def _gpu(machine: Mapping[str, Any]) -> str:
    return f", {machine['gpus']}x {machine['gpu']}" if machine.get("gpus") else ", no GPU"
