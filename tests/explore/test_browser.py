"""The page in headless Chromium: every control, the address, export, hostile names, thousands of runs."""

from __future__ import annotations

import csv
import io
import random
import time
from pathlib import Path

import pytest

from fastpipe.efficiency.prices import SHIPPED, read_prices
from fastpipe.explore.collect import Collector
from fastpipe.explore.page.build import page
from fastpipe.explore.payload import payload
from fastpipe.explore.run import IMAGENET, Collection, Curve, Minutes, Run

pytestmark = [pytest.mark.slow, pytest.mark.debian, pytest.mark.timeout(280)]

HOSTILE = '</script><img src=x onerror="window.pwned=1"><b>\'`${window.pwned=1}=1+1'


def own(number: int, **changes) -> Run:
    epochs = 4 + number % 3
    values = {
        "id": f"run-{number}",
        "kind": "own",
        "family": "mild",
        "title": "MosaicML Mild",
        "group": f"g{number // 2}",
        "dataset": IMAGENET,
        "hardware": "my GPU",
        "epochs": epochs,
        "resolution": 128,
        "quality": 70.0 + number % 4,
        "minutes": Minutes(text=10.0 + number, mlperf=20.0 + number),
        "methods": ("ema",),
        "seed": number,
        "curve": Curve(epochs=[1.0, 2.0], minutes=[5.0, 10.0], quality=[50.0, 70.0]),
        "command": "fastpipe-train --seed 1",
        "config": {"recipe": "mild", "seed": number, "optimizer.lr": 0.5 + number % 2},
    }
    return Run(**{**values, **changes})


RUNS = [
    *(own(number) for number in range(6)),
    own(
        6,
        title=HOSTILE,
        id=HOSTILE,
        family=HOSTILE,
        hardware=HOSTILE,
        notes=HOSTILE,
        energy_kwh=1.5,
        group="h",
    ),
    own(7, dataset="demo", group="demo", quality=99.0, minutes=Minutes(text=0.1)),
    own(8, finished=False, group="u"),
    own(9, quality=None, group="nan"),
]


def write(path: Path, runs: list[Run], **options) -> str:
    runs = [*Collector([]).collect().runs, *runs]
    collection = Collection(runs=runs, problems=[HOSTILE])
    values = payload(collection, read_prices(SHIPPED), serving=False, created="now", **options)
    path.write_text(page(values), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("page") / "page.html", RUNS)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> str:
    """The published points without own runs."""
    return write(tmp_path_factory.mktemp("page") / "alone.html", [])


class Page:
    """What a reader does and sees."""

    def __init__(self, browser, address: str, state: str = "") -> None:
        self.browser = browser
        browser.get("about:blank")
        browser.get(f"{address}#{state}")

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        self.browser.find_element("css selector", selector).click()

    def choose(self, identity: str, value: str) -> None:
        self.run(
            "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change', {bubbles: true}));",
            identity,
            value,
        )

    def type(self, identity: str, text: str) -> None:
        field = self.browser.find_element("id", identity)
        field.clear()
        field.send_keys(text + ("\n" if identity == "at" else ""))

    @property
    def state(self) -> str:
        return self.run("return decodeURIComponent(location.hash.slice(1))")

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)

    def traces(self) -> list[dict]:
        return self.run(
            "return document.getElementById('plot').data.map(t => ({name: t.name, mode: t.mode, x: [...t.x], "
            "y: [...t.y], symbol: t.marker?.symbol, ids: t.customdata ? [...t.customdata] : []}))"
        )

    def points(self) -> dict[str, tuple[float, float]]:
        return {
            identity: (x, y)
            for trace in self.traces()
            for identity, x, y in zip(trace["ids"], trace["x"], trace["y"], strict=False)
        }

    def column(self, key: str, table: str = "comparison") -> list[str]:
        return self.texts(f"#{table} td[data-col='{key}']")


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> str:
    """As `make study` writes it: own runs on other data, and the published points first."""
    runs = [own(number, dataset="photos") for number in range(6)]
    return write(tmp_path_factory.mktemp("page") / "study.html", runs, dataset=IMAGENET)


@pytest.mark.parametrize("name", ["alone", "studied"])
def test_how_much_does_mild_save_at_76_6_in_three_clicks(browser, name, request):
    page = Page(browser, request.getfixturevalue(name))
    page.click("#tab-saved")
    page.click(".chip[data-at='76.6']")
    assert page.column("value")[0].startswith("7.1") and page.column("recipe")[0] == "MosaicML Mild"
    assert (page.column("ours")[0], page.column("theirs")[0]) == ("25.3", "180")
    assert "NVIDIA Hparams Baseline · MosaicML Cloud" in page.text("#base option:checked")
    assert page.text("#compare-answer").startswith(
        "MosaicML Mild reaches 76.6 % in 25.3 minutes; the baseline takes 180"
    )


def test_the_reader_may_leave_the_data_set_that_the_page_opens_on(browser, studied):
    page = Page(browser, studied)
    assert page.run("return document.getElementById('dataset').value") == IMAGENET
    page.choose("dataset", "photos")
    assert len(page.points()) == 3, "pairs of seeds"
    page.click("#reset")
    assert page.run("return document.getElementById('dataset').value") == IMAGENET


@pytest.mark.parametrize("tab", ["saved", "gained"])
def test_every_chip_gives_the_baseline_a_figure(browser, alone, tab):
    page = Page(browser, alone, f"tab={tab}")
    options = browser.find_elements("css selector", "#base option")
    longest = max(options, key=lambda option: int(option.text.rpartition("(")[2].rstrip(")")))
    page.choose("base", longest.get_attribute("value"))
    at = [chip.get_attribute("data-at") for chip in browser.find_elements("css selector", ".chip[data-at]")]
    assert len([value for value in at if value]) >= 3
    for value in filter(None, at):
        page.click(f".chip[data-at='{value}']")
        named = dict(zip(page.column("recipe"), page.column("ours"), strict=True))
        (own,) = (figure for recipe, figure in named.items() if recipe.endswith("baseline"))
        assert own[0].isdigit(), (tab, value)


def test_published_points_and_own_runs_are_told_apart(browser, address):
    page = Page(browser, address, "seeds=each&dataset=ImageNet-1k")
    for trace in page.traces():
        if trace["mode"] == "markers":
            published = trace["name"].endswith("· published")
            assert trace["symbol"] == ("diamond-open" if published else "circle")
            assert {identity.startswith("published:") for identity in trace["ids"]} == {published}
    points = page.points()
    assert points["published:13"] == (25.3, 76.6) and points["run-3"] == (13, 73)
    assert "run-8" not in points and "run-9" not in points, "not finished, and without an accuracy"
    assert len(page.texts("#runs .kind")) == 0
    page.click("#tab-runs")
    page.choose("kind", "own")
    assert set(page.column("kind", "runs")) == {"own run"}


def test_another_data_set_is_on_no_frontier_without_being_asked(browser, address):
    page = Page(browser, address, "front=all")
    assert "run-7" not in page.points() and not browser.find_element("id", "mixed").is_displayed()
    (line,) = [trace for trace in page.traces() if trace["mode"] == "lines"]
    assert 99 not in line["y"]
    page.choose("dataset", "*")
    assert page.points()["run-7"] == (0.1, 99) and "dataset=*" in page.state
    assert browser.find_element("id", "mixed").is_displayed()
    (line,) = [trace for trace in page.traces() if trace["mode"] == "lines"]
    assert line["y"] == [99], "it dominates everything: as asked"


def test_seeds_are_a_mean_with_an_interval_or_each_run(browser, address):
    page = Page(browser, address, "kind=own&dataset=ImageNet-1k")
    assert page.points()["run-0"] == (10.5, 70.5) and "run-1" not in page.points()
    errors = page.run(
        "return document.getElementById('plot').data.filter(t => t.error_y).map(t => [...t.error_y.array])"
    )
    assert max(map(max, errors)) == pytest.approx(0.5), "the two seeds are the ends of the interval"
    page.choose("seeds", "each")
    assert page.points()["run-1"] == (11, 71)


@pytest.mark.parametrize(
    ("axis", "run", "cost"),
    [("dollars", "published:16", 56 / 60 * 32.82), ("epochs", "run-0", 4.0), ("energy", HOSTILE, 1.5)],
)
def test_accuracy_against_dollars_epochs_and_energy(browser, address, axis, run, cost):
    page = Page(browser, address, "seeds=each")
    page.choose("x", axis)
    assert page.points()[run][0] == pytest.approx(cost) and f"x={axis}" in page.state


def test_times_by_one_rule_only(browser, address):
    page = Page(browser, address, "seeds=each")
    page.choose("rule", "mlperf")
    points = page.points()
    assert "published:13" not in points and points["run-0"][0] == 20
    page.choose("rule", "text")
    mlperf = [identity for identity, (x, y) in page.points().items() if y == 76.142]
    assert page.points()[mlperf[0]][0] == pytest.approx(20.930833), "23.554 minutes by MLPerf's rule"


def test_what_was_printed_is_shown_until_a_rule_is_chosen(browser, alone):
    """MosaicML's v2.0 logs have both rules: the printed figure is MLPerf's."""
    page = Page(browser, alone, "seeds=each")
    assert page.points()["published:65"] == (23.554, 76.142)
    assert "Time is counted by 3 rules" in page.text("#plot-note")
    page.choose("rule", "text")
    assert page.points()["published:65"][0] == pytest.approx(20.930833)
    assert "Time is counted by" not in page.text("#plot-note")


def test_times_by_different_rules_are_on_different_curves(browser, tmp_path):
    """One recipe on one machine, timed by the text's rule, by MLPerf's and by nobody's."""
    kinds = [Minutes(text=10.0), Minutes(mlperf=8.0), Minutes(stated=6.0)]
    runs = [own(n, group=f"g{n}", minutes=minutes, quality=70.0 + n) for n, minutes in enumerate(kinds)]
    page = Page(browser, write(tmp_path / "page.html", runs), "kind=own&tab=saved")
    titles = sorted(page.texts("#base option"))
    assert [title.rpartition(" · ")[2] for title in titles] == [
        "MLPerf's rule (1)",
        "rule not stated (1)",
        "without validation (1)",
    ]
    page.choose("base", page.run("return [...document.querySelectorAll('#base option')].at(-1).value"))
    page.choose("rule", "text")
    assert len(page.texts("#base option")) == 1 and page.column("rule") == []


def test_a_comparison_of_two_rules_says_so(browser, tmp_path):
    runs = [
        own(0, group="a", family="nvidia_hparams", minutes=Minutes(text=10.0), quality=70.0),
        own(1, group="b", family="mild", minutes=Minutes(mlperf=8.0), quality=70.0),
    ]
    page = Page(browser, write(tmp_path / "page.html", runs), "kind=own&tab=saved")
    assert "the baseline's time: without validation" in page.column("note")


def test_an_own_price_follows_the_rule_and_a_bare_bill_is_no_figure_of_one(browser, tmp_path):
    runs = [own(0, group="a", cost=9.0, price_per_hour=6.0), own(1, group="b", cost=9.0)]
    address = write(tmp_path / "page.html", runs)
    page = Page(browser, address, "kind=own&x=dollars")
    assert (page.points()["run-0"][0], page.points()["run-1"][0]) == (pytest.approx(1.0), 9)
    page.choose("rule", "mlperf")
    assert page.points() == {"run-0": (pytest.approx(2.0), 70)}
    page = Page(browser, address, "tab=run&run=run-0")
    assert "1 (without validation, epoch 1 as epoch 2); 2 (by MLPerf's rule)" in page.text("#facts")
    assert "9 (by its wall clock)" in Page(browser, address, "tab=run&run=run-1").text("#facts")


@pytest.mark.parametrize("tab", ["saved", "run&run=published:13"])
def test_a_narrow_screen_is_not_wider_than_itself(browser, address, tab):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        page = Page(browser, address, f"tab={tab}")
        assert page.run("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_arms_of_a_record_share_no_curve_with_one_another_or_with_published_points(browser, tmp_path):
    """Own figures beside ImageNet's, as asked: lines join runs of one arm on one data set alone."""
    values = {"dataset": "photos", "hardware": "cpu"}
    runs = [
        own(
            n,
            group=f"g{n}",
            family=f"Table 4: {arm}",
            title=f"Table 4: {arm}-{n}",
            quality=60.0 + n,
            **values,
        )
        for n, arm in enumerate(("mixup", "cutmix", "mixup", "cutmix"))
    ]
    page = Page(browser, write(tmp_path / "page.html", runs), "dataset=*")
    where = {point: identity for identity, point in page.points().items()}
    lines = [
        {where.get(point) for point in zip(trace["x"], trace["y"], strict=True)}
        for trace in page.traces()
        if trace["mode"] == "lines"
    ]
    own_lines = [line for line in lines if any(str(one).startswith("run-") for one in line)]
    assert sorted(map(sorted, own_lines)) == [["run-0", "run-2"], ["run-1", "run-3"]]


def test_bounds_keep_their_sign_in_runs(browser, alone):
    page = Page(browser, alone, "tab=runs&find=Table 1")
    assert "printed as <=60 epochs, <=60 min, <=78.1 % top-1" in page.column("bounds", "runs")


def test_runs_on_data_that_nobody_names_are_warned_about(browser, tmp_path):
    runs = [own(n, group=f"g{n}", dataset="unknown data") for n in range(2)]
    page = Page(browser, write(tmp_path / "page.html", runs))
    assert browser.find_element("id", "nameless").is_displayed()
    page.choose("dataset", IMAGENET)
    assert not browser.find_element("id", "nameless").is_displayed() and "run-0" not in page.points()


def test_filters(browser, address):
    page = Page(browser, address, "seeds=each&tab=runs")

    def shown() -> int:
        return len(page.texts("#runs tbody tr"))

    whole = shown()
    page.click("#family summary")
    page.click("#family input[value='mild']")
    families = set(page.column("family", "runs"))
    assert families == {"MosaicML Mild"} and shown() < whole and "family=mild" in page.state
    page.click("#hw summary")
    page.click("#hw input[value='my GPU']")
    assert set(page.column("hardware", "runs")) == {"my GPU"} and shown() == 8
    page.click("#reset")
    assert shown() == whole and page.state == "tab=runs"
    page.choose("res", "128")
    assert set(page.column("resolution", "runs")) == {"128"}
    page.choose("res", "")
    page.click("#methods summary")
    page.choose("method-sam", "on")
    assert set(page.column("family", "runs")) == {"MosaicML Medium", "MosaicML Hot"}
    page.choose("method-sam", "off")
    assert not {"MosaicML Medium", "MosaicML Hot"} & set(page.column("family", "runs"))
    page.click("#reset")
    page.choose("model", "resnet18")
    assert set(page.column("family", "runs")) == {"FFCV ResNet-18 with flip TTA"}
    page.click("#reset")
    page.type("find", "oracle")
    assert (
        set(page.column("hardware", "runs")) == {"Oracle BM.GPU4.8 8xA100-40GB"}
        and "find=oracle" in page.state
    )
    assert page.run("return document.activeElement.id") == "find", "typing goes on"


def test_the_address_holds_the_whole_view(browser, address):
    page = Page(browser, address)
    page.click("#tab-saved")
    page.click("#cross")
    page.choose("rule", "text")
    page.click(".chip[data-at='76.6']")
    before, state = page.texts("#comparison tbody td"), page.state
    again = Page(browser, address, page.run("return location.hash.slice(1)"))
    assert again.texts("#comparison tbody td") == before and again.state == state
    browser.back()
    browser.get(f"{address}#tab=gained&atcost=180")
    assert page.text("[aria-selected=true]") == "Quality at equal time"
    assert "76.6" in page.column("theirs")


def test_a_nonsense_address_is_the_usual_view(browser, address):
    page = Page(browser, address, "tab=x&x=y&rule=z&sort=q&base=w&axis=v&run=u")
    assert page.text("[aria-selected=true]") == "Accuracy against cost" and len(page.points()) > 100
    page = Page(browser, address, "tab=constructor&x=toString&front=x&seeds=y")
    assert page.text("[aria-selected=true]") == "Accuracy against cost" and len(page.points()) > 100
    assert page.text("#front option:checked") == "of each recipe and machine"
    page = Page(browser, address, "dataset=gone&model=lost&family=constructor")
    assert page.text("#dataset option:checked") == "gone (not here)", "the filter that hides all is seen"
    assert page.text("#model option:checked") == "lost (not here)" and page.points() == {}
    assert "constructor" in page.run("return document.querySelector('#family .list').textContent")
    page = Page(browser, address, "tab=run&run=nobody")
    assert page.text("#run-body") == "There is no run nobody here."


def test_tables_sort_both_ways_with_the_keyboard(browser, address):
    page = Page(browser, address, "tab=runs")
    page.click("#runs button[data-sort='epochs']")
    epochs = [float(text.replace(",", "")) for text in page.column("epochs", "runs") if text[0].isdigit()]
    assert epochs == sorted(epochs, reverse=True) and not page.column("epochs", "runs")[-1][0].isdigit()
    page.browser.find_element("css selector", "#runs button[data-sort='epochs']").send_keys("\n")
    epochs = [float(text.replace(",", "")) for text in page.column("epochs", "runs") if text[0].isdigit()]
    assert epochs == sorted(epochs) and "sort=epochs" in page.state


def test_tabs_and_runs_are_reached_without_a_mouse(browser, address):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, address)
    browser.find_element("id", "tab-chart").send_keys(Keys.ARROW_RIGHT)
    assert page.run("return document.activeElement.id") == "tab-saved" and "tab=saved" in page.state
    reachable = page.run(
        "return [...document.querySelectorAll('button, select, input, summary')]"
        ".filter(e => e.checkVisibility()).every(e => e.tabIndex >= 0 || e.getAttribute('role') === 'tab')"
    )
    assert reachable
    browser.find_element("css selector", "#comparison button.name").send_keys("\n")
    assert "tab=run" in page.state and page.text("#run-title") == "MosaicML Mild"
    unnamed = page.run(
        "return [...document.querySelectorAll('select, input, button')].filter(e => e.checkVisibility() && "
        "!(e.innerText || e.closest('label')?.innerText || e.ariaLabel)).map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_the_same_gpus_with_other_cpus(browser, alone):
    """Table 3 of the reference text: Hot waits for the weaker CPU, Mild hardly does."""
    page = Page(browser, alone)
    page.click("#tab-hosts")
    names = ("gpus", "recipe", "source", "host", "rate", "share")
    rows = list(zip(*(page.column(name, "hosts") for name in names), strict=True))
    assert {row[3:] for row in rows if row[2] == "reference text" and row[1] == "MosaicML Hot"} == {
        ("Oracle BM.GPU4.8", "14,388", "100 %"),
        ("AWS p4d.24xlarge", "9,225", "64 %"),
    }
    assert ("8x A100-40GB", "MosaicML Mild", "reference text", "AWS p4d.24xlarge", "21,582", "97 %") in rows
    for gpus, recipe, source, *_ in rows:
        assert len({row[3] for row in rows if row[:3] == (gpus, recipe, source)}) > 1
    page.click("#hosts-csv")
    assert len(list(csv.DictReader(io.StringIO(downloaded(browser, "hosts.csv").decode())))) == len(rows)


def coordinates(page):
    return page.run(
        "return (document.getElementById('coordinates').data ?? []).flatMap(t => t.dimensions.map(d => "
        "[d.label, [...d.values], d.ticktext ? [...d.ticktext] : null]))"
    )


def test_settings_as_parallel_coordinates(browser, tmp_path):
    kinds = ("sgd", HOSTILE, "lamb")
    runs = [
        own(
            n,
            group=f"g{n}",
            config={"optimizer.name": kinds[n % 3], "optimizer.lr": n / 10, "blurpool": True},
        )
        for n in range(1, 7)
    ]
    page = Page(browser, write(tmp_path / "page.html", runs), "kind=own")
    page.click("#tab-settings")
    found = {label: (values, ticks) for label, values, ticks in coordinates(page)}
    assert set(found) == {"optimizer.name", "optimizer.lr", "epochs", "minutes", "top-1 %"}, (
        "those that differ"
    )
    assert found["optimizer.lr"][0] == [n / 10 for n in range(1, 7)]
    values, ticks = found["optimizer.name"]
    assert "lamb" in ticks and "<img" not in "".join(ticks)
    assert [ticks[value] for value in values][1] == "lamb"
    page.click("#axes summary")
    page.click("#axes input[value='optimizer.lr']")
    assert "axes=optimizer.lr" in page.state
    assert "optimizer.name" not in {label for label, *_ in coordinates(page)}
    page.choose("kind", "published")
    assert {label for label, *_ in coordinates(page)} == {"minutes", "top-1 %"}, "points have no settings"
    assert page.run("return window.pwned") is None


def test_the_pages_beside_a_run(browser, tmp_path, make_run):
    folder = make_run("runs/one")
    (folder / "profile.html").write_text("<title>the profile</title>")
    collection = Collector([str(tmp_path / "runs")], published=False).collect()
    values = payload(collection, (), serving=False, created="now", beside=str(tmp_path))
    (tmp_path / "page.html").write_text(page(values), encoding="utf-8")
    opened = Page(browser, (tmp_path / "page.html").as_uri(), "tab=run&run=one")
    link = opened.run("return document.querySelector('a[data-page]').href")
    browser.get(link)
    assert browser.title == "the profile"


def test_the_page_of_a_run(browser, address):
    page = Page(browser, address, "tab=runs&kind=own&dataset=ImageNet-1k")
    page.click("#runs button[data-run='run-1']")
    facts = page.text("#facts")
    assert "71 %" in facts.replace("71.0", "71") and "11 (without validation, epoch 1 as epoch 2)" in facts
    assert page.text("#command") == "fastpipe-train --seed 1"
    page.choose("other", "run-2")
    rows = dict(
        zip(page.texts("#difference-table td.label"), page.texts("#difference-table tbody tr"), strict=True)
    )
    assert rows["optimizer.lr"].split() == ["optimizer.lr", "1.5", "0.5"] and "recipe" not in rows
    curve = "return document.getElementById('curve').data.map(t => [[...t.x], [...t.y]])"
    assert page.run(curve) == [[[1, 2], [50, 70]]] * 2
    page.choose("axis", "minutes")
    assert page.run(curve)[0][0] == [5, 10] and "axis=minutes" in page.state
    assert Page(browser, address, "tab=run&run=run-9").text("#facts").count("none that is finite") == 1


def test_a_click_on_a_point_opens_its_run(browser, address):
    page = Page(browser, address)
    page.run("document.getElementById('plot').emit('plotly_click', {points: [{customdata: 'published:13'}]})")
    assert page.text("#run-title") == "MosaicML Mild" and "published:13" in page.text("#facts")


def test_hostile_names_stay_text(browser, address):
    page = Page(browser, address, "dataset=*&front=all")
    for tab in ("chart", "saved", "gained", "runs"):
        page.click(f"#tab-{tab}")
        assert page.run("return [window.pwned ?? null, document.images.length]") == [None, 0]
        if tab == "chart":
            legend = page.run("return [...document.querySelectorAll('.legendtext')].map(e => e.textContent)")
            assert [text for text in legend if text.startswith("</script><img")], "shown as it is, tags too"
    page.click("#family summary")
    page.type("find", "onerror")
    assert page.column("title", "runs")[0].startswith("</script><img")
    page.click("#runs button.name")
    assert page.text("#run-title") == HOSTILE
    page.choose("other", "run-1")
    page.click("#tab-chart")
    page.run(
        "const all = document.getElementById('plot').data, curve = all.findIndex("
        "t => t.customdata?.includes(arguments[0])), point = all[curve].customdata.indexOf(arguments[0]);"
        "Plotly.Fx.hover('plot', [{curveNumber: curve, pointNumber: point}])",
        HOSTILE,
    )
    assert HOSTILE in page.run("return document.querySelector('.hoverlayer').textContent")
    assert page.run("return [window.pwned ?? null, document.images.length]") == [None, 0]


def downloaded(browser, name: str) -> bytes:
    path = browser.downloads / name
    for _ in range(300):
        if path.exists() and path.stat().st_size:
            data = path.read_bytes()
            path.unlink()
            return data
        time.sleep(0.1)
    raise AssertionError(f"{name} was not downloaded; found {list(browser.downloads.iterdir())}")


def test_export_of_runs_and_comparisons_as_csv(browser, address):
    page = Page(browser, address, "tab=runs&dataset=ImageNet-1k")
    page.click("#runs-csv")
    rows = list(csv.DictReader(io.StringIO(downloaded(browser, "runs.csv").decode())))
    by_id = {row["id"]: row for row in rows}
    assert len(rows) == 249 + 9 and by_id["published:13"]["minutes_without_validation"] == "25.3"
    assert by_id["published:13"]["top1"] == "76.6" and by_id[HOSTILE]["recipe"] == HOSTILE
    assert by_id["run-9"]["top1"] == ""
    assert [row["recipe"] for row in rows if row["recipe"].startswith("'+")], "no formula for a spreadsheet"
    page.click("#tab-saved")
    page.click("#compare-csv")
    rows = list(csv.DictReader(io.StringIO(downloaded(browser, "time-saved.csv").decode())))
    assert float(rows[0]["times faster"]) > 7 and {
        "note",
        "95 % interval, low",
        "95 % interval, high",
    } <= set(rows[0])


def test_export_of_the_picture(browser, address):
    page = Page(browser, address)
    page.click("#png")
    data = downloaded(browser, "accuracy.png")
    assert data.startswith(b"\x89PNG") and len(data) > 30_000


def test_light_and_dark(browser, address):
    page = Page(browser, address)
    seen = {}
    for _ in range(2):
        theme = page.run("return document.documentElement.dataset.theme ?? 'system'")
        seen[theme] = page.run(
            "const p = document.getElementById('plot').layout;"
            "return [getComputedStyle(document.body).backgroundColor, p.paper_bgcolor, p.font.color]"
        )
        page.click("#theme")
    assert len({tuple(colours) for colours in seen.values()}) == 2
    assert "theme=" in page.state


def test_nothing_on_the_page_sends_the_chart_away(browser, address):
    page = Page(browser, address)
    titles = page.run("return [...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)")
    assert titles == ["Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def many(count: int) -> list[Run]:
    draw = random.Random(0)
    return [
        own(
            number,
            id=f"many-{number}",
            group=f"many-{number // 2}",
            family=draw.choice(["mild", "hot", "timm_a1", "nvidia_hparams"]),
            quality=draw.uniform(20, 80),
            minutes=Minutes(text=draw.uniform(5, 500), mlperf=600.0),
            curve=Curve(epochs=range(1, 31), minutes=range(1, 31), quality=range(1, 31)),
        )
        for number in range(count)
    ]


def test_5000_runs_do_not_stutter(browser, tmp_path):
    address = write(tmp_path / "many.html", many(5000))
    browser.get("about:blank")
    # The time of the page's own thread: another program on this machine does not count.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def busy_s() -> float:
        found = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {metric["name"]: metric["value"] for metric in found}["ThreadTime"]

    before = busy_s()
    page = Page(browser, address, "seeds=each&dataset=ImageNet-1k")
    page.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert len(page.points()) > 5000
    assert busy_s() - before <= 2.0, "seconds to the first picture"
    for tab in ("saved", "gained", "runs", "chart"):
        before = busy_s()
        page.click(f"#tab-{tab}")
        assert busy_s() - before <= 1.0, tab
    page.click("#tab-runs")
    assert "The first 300 of 5,249 rows" in page.text("#runs-table")
    browser.execute_cdp_cmd("Performance.disable", {})


def test_no_runs_at_all(browser, tmp_path):
    collection = Collection(runs=[], problems=["nothing here"])
    path = tmp_path / "none.html"
    path.write_text(page(payload(collection, (), serving=False, created="now")), encoding="utf-8")
    shown = Page(browser, path.as_uri())
    assert "0 points" in shown.text("#plot-note") and "1 note" in shown.text("#problems")
    for tab in ("saved", "gained", "runs", "run"):
        shown.click(f"#tab-{tab}")
    assert "Choose a run" in shown.text("#run-body")
