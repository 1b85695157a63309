"""The page: every section drawn or named as missing, all text escaped, no network; in a browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastpipe.page.markup import el
from fastpipe.page.numbers import round_steps
from fastpipe.page.theme import STYLE
from fastpipe.profiling import names
from fastpipe.profiling.cli import main
from fastpipe.profiling.host import quick_card
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import Spread, Timing
from fastpipe.profiling.report.page import page
from fastpipe.profiling.report.page.build import SECTIONS
from fastpipe.profiling.report.page.values import spread
from fastpipe.profiling.report.terminal import _row
from fastpipe.profiling.report.values import _stage

EVIL = "<script>alert('x')</script>\"&<img src=x onerror=alert(1)>"


def stage(name: str, lane: str | None, rate: float) -> dict[str, Any]:
    rates = {"median": rate, "low": 0.9 * rate, "high": 1.1 * rate}
    cost = {"median": 900 / rate, "low": 800 / rate, "high": 1000 / rate}
    row = {"name": name, "lane": lane, "what": "work", "repeats": 5, "images": 50}
    return {**row, "images_per_s": rates, "cpu_ms_per_image": cost}


def spans() -> list[dict[str, Any]]:
    kinds = (
        ("load", 0, 0.0, 0.2),
        ("transfer", 1, 0.2, 0.25),
        ("wait", 2, 0.0, 0.3),
        ("compute", 2, 0.3, 1.0),
    )
    return [
        {"row": row, "name": kind, "kind": kind, "batch": 3, "start_s": start, "end_s": end}
        for kind, row, start, end in kinds
    ]


def whole() -> dict[str, Any]:
    """A report with every section."""
    curve = [
        {"workers": n, "images_per_s": {"median": 100 * n, "low": 90 * n, "high": 110 * n}} for n in (1, 2, 4)
    ]
    fix = {"title": "more workers", "images_per_s": {"median": 90, "low": 80, "high": 99}, "gain": 1.5}
    return {
        "schema_version": 1,
        "created": "2026-11-25T00:00:00Z",
        "host": {"cpu": "Imagined 9000", "gpu": None, "fastpipe": "0.1.0"},
        "data": {"name": "photos"},
        "workload": {"model": "resnet18", "resolution": 176, "batch_size": 64, "workers": 2},
        "stages": [
            stage("decode", "worker", 300),
            stage("device stage", "main", 9000),
            stage("model step", "model", 50),
        ],
        "together": [stage("fastpipe.DataLoader", None, 500), stage("loader + model", None, 48)],
        "verdict": {
            "bottleneck": "model step",
            "sentences": ["The model step is the bottleneck."],
            "cpus_needed": 0.2,
        },
        "scaling": {"points": curve[:2], "fit": {"name": "USL", "curve": curve}, "demand_images_per_s": 350},
        "fixes": [{**fix, "side_effect": "none", "command": "--workers 4"}],
        "details": [stage("header", None, 8000)],
        "differential": {
            "epoch_images": 1000,
            "stalls": [{"name": "+ decode", "seconds": {"median": 3, "low": -1, "high": 5}, "share": 0.3}],
        },
        "interference": {"points": [{"load": 0.4, "images_per_s": 48}], "knee": 0.4},
        "latency": {"first_batch_ms": 120, "wait_p99_ms": 9.5, "worker_bytes": 250_000_000},
        "verified": [{"fix": "more workers", "predicted": 90, "low": 80, "high": 99, "measured": 85}],
        "what_if": {"sentence": "Eight GPUs would starve.", "assumptions": ["as published"]},
        "timeline": {
            "rows": ["worker 0", "loader thread", "training loop"],
            "seconds": 1.0,
            "spans": spans(),
        },
        "host_card": quick_card(None),
        "notes": ["Only ten files."],
    }


class Reader(HTMLParser):
    """Checks that tags close in order, and collects tags, attributes and text."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def sections(self) -> dict[str, bool]:
        """Each section's id, and whether it was drawn."""
        drawn = {str(a["id"]): True for tag, a in self.tags if tag == "section" and a["id"] != "missing"}
        return drawn | {str(a["id"]): False for tag, a in self.tags if tag == "li" and "id" in a}


def test_a_whole_report_has_every_section_drawn() -> None:
    found = Reader(page(whole()))
    assert found.sections() == {section[0]: True for section in SECTIONS}
    text = " ".join(found.words)
    for word in (
        "The model step is the bottleneck.",
        "resnet18 on photos",
        "Imagined 9000",
        "--workers 4",
        "USL",
    ):
        assert word in text
    assert [tag for tag, _ in found.tags].count("svg") >= 5


@pytest.mark.parametrize("section", [section[0] for section in SECTIONS])
def test_a_section_that_is_not_there_or_broken_is_named(section: str) -> None:
    report = whole()
    del report[section]
    found = Reader(page(report))
    assert found.sections()[section] is False
    assert sum(found.sections().values()) == len(SECTIONS) - 1
    assert "not in this report" in " ".join(found.words)
    for broken in ("text", 7, [], {}, [None], {"rows": 3}):
        drawn = Reader(page({**whole(), section: broken}))
        assert set(drawn.sections()) == {name[0] for name in SECTIONS}


def test_a_fix_without_gain_is_named_and_not_ranked() -> None:
    report = whole()
    report["fixes"].append({"name": "a faster disk", "images_per_s": 48, "gain": 1.01})
    text = page(report)
    assert "No gain above 2 % predicted here: a faster disk." in text
    assert text.count('<tr><td class="num">1</td>') == 1 and '<td class="num">2</td>' not in text


def test_an_empty_report_is_a_page_that_says_what_it_lacks() -> None:
    assert not any(Reader(page({})).sections().values())


def planted(value: Any) -> Any:
    """The report with hostile text wherever there was text."""
    if isinstance(value, dict):
        return {key: planted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [planted(item) for item in value]
    return EVIL if isinstance(value, str) else value


def test_hostile_names_stay_text() -> None:
    report = planted(whole())
    for place, kind in enumerate(("load", "transfer", "wait", "compute")):
        report["timeline"]["spans"][place]["kind"] = kind
    found = Reader(page(report))
    assert {tag for tag, _ in found.tags} & {"script", "img", "iframe", "link"} == set()
    assert not [key for _, attributes in found.tags for key in attributes if key.startswith("on")]
    assert found.sections()["timeline"] and "alert('x')" in " ".join(found.words)


def test_nothing_comes_from_a_network() -> None:
    text = page(whole())
    assert re.findall(r"(?:https?:)?//[a-z]|@import|url\(", text) == []
    policies = [a["content"] for tag, a in Reader(text).tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert len(text) < 100_000


def test_numbers_that_are_none_do_not_become_figures() -> None:
    report = copy.deepcopy(whole())
    report["stages"][0]["images_per_s"] = {"median": float("nan"), "low": None, "high": "x"}
    report["verdict"]["cpus_needed"] = float("inf")
    text = page(report)
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    assert spread({"median": 1, "low": None}) == (1.0, 1.0, 1.0) and spread(True) is None


@pytest.mark.parametrize(
    ("most", "expected"), [(1.0, [0, 0.5, 1.0]), (6912, [0, 2000, 4000, 6000]), (3, [0, 1, 2, 3])]
)
def test_ticks_are_round(most: float, expected: list[float]) -> None:
    assert round_steps(most, 4 if most > 1 else 2) == pytest.approx(expected)


def test_attributes_are_escaped_too() -> None:
    assert el("p", EVIL, title=EVIL).count("<") == 2


def test_the_command_writes_page_and_trace(
    folder: Path, tmp_path: Path, plant_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plant_model(0.0)
    html, trace = tmp_path / "report.html", tmp_path / "trace.json"
    small = [
        "--resolution",
        "32",
        "--batch-size",
        "8",
        "--workers",
        "1",
        "--quick",
        "--seconds-per-stage",
        "0.1",
    ]
    assert main([str(folder), *small, "--html", str(html), "--trace", str(trace)]) == 0
    drawn = Reader(html.read_text(encoding="utf-8")).sections()
    assert all(drawn[name] for name in ("verdict", "stages", "timeline", "together", "host_card", "notes"))
    assert len(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]) > 10
    assert main(["./no/such/folder", "--html", str(tmp_path / "no" / "report.html")]) == 2
    assert "html must name a file" in capsys.readouterr().err


def cells(text: str, stage_name: str) -> list[str]:
    """The row of a stage in the table of all figures."""
    found = re.search(rf'<td class="fix">{re.escape(stage_name)}</td>(.*?)</tr>', text)
    assert found is not None
    return re.findall(r"<td[^>]*>([^<]*)</td>", found[1])


def test_the_page_shows_the_terminals_figures() -> None:
    """Where the repeats are skewed, the mean, which the interval is of, is another figure than the median."""
    cost = Spread(median=2.5, low=2.0, high=3.0)
    rates = (100.0, 110.0, 120.0, 1000.0, 4000.0)
    timing = Timing(
        images_per_s=Spread(median=120.0, low=110.0, high=1000.0),
        cpu_ms=cost,
        repeats=5,
        images=50,
        rates=rates,
    )
    timed = StageResult(id=names.DECODE, lane="worker", what="bytes to RGB", timing=timing)
    assert timing.interval.median > 300
    name, median, between, cpu, n, what = _row(timed)
    report = {**whole(), "stages": [_stage(timed)], "details": []}
    text = page(report)
    assert cells(text, name) == [median, between.replace("-", " to "), cpu, n, what]
    assert f"{median} images/s" in text and "312" not in text


def test_other_figures_are_the_terminals_too() -> None:
    report = whole()
    report["latency"] |= {"first_batch_ms": 1234.4, "wait_p50_ms": 12.34}
    report["differential"]["stalls"][0] |= {
        "seconds": {"median": 123.456, "low": -1, "high": 200},
        "share": 0.236,
    }
    report["interference"]["points"] = [{"load": 0.4, "images_per_s": 123.44}]
    text = page(report)
    for figure in ("1,234 ms", "12.3 ms", "+123.46 s, +23.6%", "123.4 images/s"):
        assert figure in text


def test_the_slowest_is_a_stage_of_the_path() -> None:
    """Not a loader that it is compared with, nor several stages together."""
    report = whole()
    report["together"] = [stage("torch DataLoader", None, 3), stage("loader + model", None, 2)]
    found = re.findall(r'<text[^>]*class="alarm">([^<]*)</text>', page({**report, "interference": None}))
    assert found == ["50 images/s"]
    narrow = re.findall(r'<span>([^<]*)</span><b class="alarm">', page({**report, "interference": None}))
    assert narrow == ["model step"]


def test_a_narrow_screen_has_text_in_place_of_every_drawing() -> None:
    text = page(whole())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media (max-width: 640px)" in STYLE
    # A drawing is hidden there (broad, picture) or can be moved (wide, the timeline alone).
    around = re.findall(r'<(?:div|td) class="(broad|picture|wide)"><svg', text)
    assert len(around) == text.count("<svg") and around.count("wide") == 1
    assert text.count('<ul class="narrow bars">') == around.count("broad")
    for table in re.findall(r"<table.*?</table>", text):
        assert 'class="stacked"' in table or "<th" not in table
    for row in ("decode", "header", "fastpipe.DataLoader"):
        assert f">{row}</" in text


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.mark.debian
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in (apt-get install chromium)")
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_opens_the_page_without_a_word(tmp_path: Path, dark: bool) -> None:
    (tmp_path / "report.html").write_text(page(whole()), encoding="utf-8")
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1120,2600", "--hide-scrollbars"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *(f"--screenshot={tmp_path / 'page.png'}", "--dump-dom", f"file://{tmp_path / 'report.html'}"),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "CONSOLE" not in shown.stderr, shown.stderr
    for _, title, *_ in SECTIONS:
        assert title in shown.stdout
    assert (tmp_path / "page.png").stat().st_size > 30_000


@pytest.mark.debian
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in (apt-get install chromium)")
def test_nothing_is_cut_off_at_390_pixels(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page(whole()), encoding="utf-8")
    command = [
        *(
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
        ),
        *("--window-size=390,6000", "--hide-scrollbars", f"--screenshot={tmp_path / 'page.png'}"),
    ]
    shown = subprocess.run([*command, f"file://{tmp_path / 'report.html'}"], capture_output=True, timeout=200)
    assert shown.returncode == 0, shown.stderr[-2000:]
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert pixels.shape[1] == 390
    edge = pixels[:, -8:]
    assert (edge == edge[0, 0]).all(), "something reaches the edge of the screen"
    assert (pixels[:, :-8] != edge[0, 0]).any()
