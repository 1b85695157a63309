"""The shipped points are the cited ones, and a damaged file is refused with its line."""

import csv

import pytest

from fastpipe.efficiency.published import COLUMNS, POINTS, curve_rows, figure, published_points, read_points
from fastpipe.errors import DataError


def test_every_row_is_there_with_its_citation():
    points = published_points()
    assert len(points) == 249
    with POINTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for point, row in zip(points, rows, strict=True):
        for name in ("epochs", "minutes", "top1", "throughput_img_s"):
            assert (getattr(point, name).text if getattr(point, name) else "") == row[name]
        assert point.citation == row["citation"] and point.citation


def test_mild_and_the_baseline_at_76_6():
    at = {
        p.recipe: p.minutes.value
        for p in published_points()
        if p.top1 and p.top1.value == 76.6 and p.source == "reference text"
    }
    assert at == {"MosaicML Mild": 25.3, "NVIDIA Hparams Baseline": 180.0}


def test_table_1_gives_bounds_and_no_points():
    bounds = [p for p in published_points() if p.bounds]
    assert [p.recipe for p in bounds][:2] == ["FFCV (no TTA)", "NVIDIA Hparams Baseline"] and len(bounds) == 5


@pytest.mark.parametrize(
    ("text", "value", "approximate"),
    [
        ("25.3", 25.3, False),
        ("~840", 840.0, True),
        ("<60", None, False),
        (">=79.5", None, False),
        ("60-200", None, False),
        ("75.878 / 75.382 / 75.490", 75.58333333, False),
    ],
)
def test_printed_numbers(text, value, approximate):
    found = figure(text, "here")
    assert found.text == text and found.approximate is approximate
    assert found.value == (None if value is None else pytest.approx(value))


def test_curves_are_shipped():
    assert len(curve_rows("mlperf_v20_curves")) == 195 and len(curve_rows("ffcv_imagenet_curves")) == 262
    assert len(curve_rows("mlperf_v20_epoch_times")) == 555


ROW = dict.fromkeys(COLUMNS, "") | {"source": "s", "recipe": "r", "citation": "c", "top1": "76.6"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"citation": " "}, "line 2: citation is empty"),
        ({"top1": "766"}, r"line 2: top1 must be in 0\.\.100, in percent. Found: 766"),
        ({"minutes": "soon"}, "line 2: minutes must be a number, a bound"),
        ({"minutes": "nan"}, "Found: 'nan'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, change, message):
    path = tmp_path / "p.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(ROW | change)
    with pytest.raises(DataError, match=message):
        read_points(path)


def test_a_missing_column_a_torn_line_and_no_file(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("source,recipe\na,b\n")
    with pytest.raises(DataError, match="Missing: epochs"):
        read_points(path)
    path.write_text(",".join(COLUMNS) + "\nsource,recipe,90\n")
    with pytest.raises(DataError, match="line 2: not as many fields"):
        read_points(path)
    with pytest.raises(DataError, match="cannot be read as CSV: No such file"):
        read_points(tmp_path / "none.csv")
