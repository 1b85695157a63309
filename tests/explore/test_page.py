"""What is inside the page: the published numbers, hostile names, nothing from a network."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from fastpipe.efficiency.prices import SHIPPED, Price, dollars, price_of, read_prices
from fastpipe.efficiency.published import POINTS
from fastpipe.errors import ArgumentError
from fastpipe.explore.cli import main
from fastpipe.explore.collect import Collector
from fastpipe.explore.page.build import script
from fastpipe.explore.payload import as_json, payload, usual_settings
from fastpipe.explore.run import Collection, Curve, Run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&amp;\"'`${x}"


def data_of(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["--output", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def test_the_numbers_on_the_page_are_those_of_the_csv(published):
    with POINTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    runs = data_of(published)["runs"]
    assert len(runs) == len(rows) == 249
    compared = 0
    for run, row in zip(runs, rows, strict=True):
        assert (run["title"], run["citation"], run.get("notes", "")) == (
            row["recipe"],
            row["citation"],
            row["notes"],
        )
        times = [value for value in run["minutes"].values() if value is not None]
        for name, found in (
            ("top1", [run.get("quality")]),
            ("minutes", times),
            ("epochs", [run.get("epochs")]),
            ("throughput_img_s", [run.get("images_per_s")]),
        ):
            plain = re.fullmatch(r"~?([\d.]+)", row[name])
            if plain and not row["notes"].startswith("printed as"):
                assert float(plain[1]) in found, (run, row)
                compared += 1
            elif row[name] and "/" not in row[name]:
                assert row[name] in run["bounds"] or name == "throughput_img_s"
    assert compared > 450


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_asks_nothing_of_a_network(published):
    found = Tags(published)
    assert found.tags.count("script") == 3 and "link" not in found.tags and "img" not in found.tags
    assert not [value for name, value in found.attributes if name in ("src", "href")]
    policy = re.search(r'content="(default-src[^"]*)"', published)[1]
    assert "default-src &#x27;none&#x27;" in policy and "connect-src &#x27;none&#x27;" in policy


def test_a_hostile_name_stays_text():
    run = Run(
        id=HOSTILE, kind="own", family=HOSTILE, title=HOSTILE, group="g", dataset=HOSTILE, notes=HOSTILE
    )
    values = payload(Collection(runs=[run], problems=[HOSTILE]), (), serving=False, created="now")
    text = as_json(values)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text)["runs"][0]["title"] == HOSTILE


def test_no_name_is_declared_twice():
    """The files are the body of one function, in which a second declaration silently replaces the first."""
    names = re.findall(r"^(?:const|let|function|async function) (\w+)", script(), re.MULTILINE)
    assert [name for name, count in Counter(names).items() if count > 1] == [] and len(names) > 60


def test_scripts_never_make_markup_out_of_text():
    from fastpipe.explore.page.build import script

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script())


def test_settings_are_stored_once_and_come_back(make_run, tmp_path):
    make_run("a", seed=1)
    make_run("b", seed=2)
    make_run("c", seed=3, recipe="hot")
    collection = Collector([str(tmp_path)], published=False).collect()
    values = json.loads(as_json(payload(collection, (), serving=False, created="")))
    for run, packed in zip(collection.runs, values["runs"], strict=True):
        assert {**values["usual"], **packed.get("changed", {})} == json.loads(json.dumps(dict(run.config)))
    assert "seed" in values["usual"] and "config" not in values["runs"][0]
    assert usual_settings([]) == {}


def test_long_curves_are_thinned_and_keep_both_ends():
    epochs = [float(e) for e in range(1, 1001)]
    run = Run(
        id="r",
        kind="own",
        family="f",
        title="t",
        group="g",
        dataset="d",
        curve=Curve(epochs=epochs, minutes=epochs, quality=epochs),
    )
    curve = payload(Collection(runs=[run]), (), serving=False, created="")["runs"][0]["curve"]
    assert len(curve["epochs"]) == 200 and (curve["epochs"][0], curve["epochs"][-1]) == (1, 1000)


def test_numbers_that_are_not_finite_never_reach_the_page():
    with pytest.raises(ArgumentError, match="finite"):
        Curve(epochs=[1.0], minutes=[1.0], quality=[float("nan")])
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"x": float("nan")})


def price(**changes):
    return Price(
        **({"hardware": "AWS p4d", "usd_per_hour": 30.0, "date": "2026-01-01", "source": "s"} | changes)
    )


def test_prices_by_the_longest_name_and_the_newest_day():
    table = [
        price(),
        price(hardware="AWS p4d.24xlarge", usd_per_hour=32.0),
        price(hardware="AWS p4d.24xlarge", usd_per_hour=22.0, date="2026-02-01"),
    ]
    assert price_of("aws p4d.24xlarge 8xA100-40GB", table) == table[2]
    assert price_of("AWS p4de", table) == table[0] and price_of("Oracle", table) is None
    assert dollars(27.0, read_prices(SHIPPED)[0]) == pytest.approx(14.77, abs=0.005)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m,free,2026-01-01,s", "line 2: usd_per_hour must be a number above 0"),
        ("m,-1,2026-01-01,s", "above 0"),
        ("m,1,yesterday,s", "line 2: date must be a day"),
        ("m,1,2026-01-01,", "must not be empty"),
    ],
)
def test_a_wrong_price_is_named(tmp_path, capsys, line, message):
    path = tmp_path / "prices.csv"
    path.write_text(f"hardware,usd_per_hour,date,source\n{line}\n")
    assert main(["--output", str(tmp_path / "p.html"), "--prices", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()


def test_a_price_reaches_the_runs_of_its_machine(published):
    values = data_of(published)
    priced = {run["hardware"] for run in values["runs"] if "price" in run}
    assert priced == {"AWS p4d.24xlarge 8xA100-40GB", "AWS p4d.24xlarge 8xA100", "AWS 8xA100"}
    assert [price["date"] for price in values["prices"]] == ["2026-04-29", "2022-06-06"]
    # The same page names a bill of $40 for 1.2 hours.
    assert dollars(72.0, price_of("AWS 8xA100", read_prices(SHIPPED))) == pytest.approx(40.0, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --output FILE.html, --serve, or both"),
        (["--output", "none/there.html"], "--output must name a file that can be written"),
        (["nothing-here", "--output", "x.html"], "RUNS must exist"),
        (["--no-published", "--output", "x.html"], "--no-published needs RUNS"),
        (["--prices", "none.csv", "--output", "x.html"], "--prices must name a CSV file"),
        (["--dataset", "ImageNet", "--output", "x.html"], "ImageNet-1k. Found: 'ImageNet'. Did you mean"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_data_set_to_open_on_is_in_the_page(tmp_path):
    assert main(["--dataset", "ImageNet-1k", "--output", str(tmp_path / "p.html")]) == 0
    assert data_of((tmp_path / "p.html").read_text())["dataset"] == "ImageNet-1k"


def test_a_port_that_is_no_port_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--serve", "70000"])
    assert "must be a port, 0 to 65535" in capsys.readouterr().err


def test_notes_on_the_inputs_are_printed_and_on_the_page(make_run, tmp_path, capsys):
    folder = make_run("runs/one")
    (folder / "summary.json").write_text("{")
    assert main([str(tmp_path / "runs"), "--output", str(tmp_path / "p.html")]) == 0
    said = capsys.readouterr()
    assert "1 own runs, 249 published points" in said.out
    assert "note: one: summary.json is not complete" in said.err
    assert data_of((tmp_path / "p.html").read_text())["problems"] == [
        "one: summary.json is not complete; the run counts as unfinished"
    ]
