"""Entries of a `.beton` in the quarantine list, from the run that meets them to the run after a repair."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from fastpipe import DataLoader
from fastpipe.backends import registry
from fastpipe.batch.quarantine import default_quarantine
from fastpipe.storage import BetonDataset
from fastpipe.storage.beton.file import Beton
from fastpipe.storage.beton.writer import write_beton

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
BROKEN = (0, 5, 11)  # the first, one in the middle, the last
MARKS = {"ffcv": pytest.mark.ffcv, "dali": pytest.mark.dali}
BACKENDS = [pytest.param(name, marks=MARKS.get(name, ())) for name in registry.BACKENDS]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """sound.beton and broken.beton: 12 JPEGs of two classes, in the second three with other bytes inside."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "images" / ("ant" if number < 6 else "bee")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (30 + number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.jpg")
    sound, broken = tmp_path / "sound.beton", tmp_path / "broken.beton"
    write_beton(tmp_path / "images", sound)
    shutil.copy(sound, broken)
    beton = BetonDataset(sound).beton
    with open(broken, "r+b") as file:
        for index in BROKEN:  # the tables stay as they are: damage that opening does not see
            file.seek(int(beton.pointers[index]))
            file.write(bytes(int(beton.lengths[index])))
    return sound, broken


def loader(path, **options):
    given = {"seed": 1, "numerics": "exact", "on_error": "replace", "engine": "none", **options}
    return DataLoader(BetonDataset(path, TRAIN), 4, **given)


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def same(ours, theirs):
    pairs = list(zip(ours, theirs, strict=True))
    return all(torch.equal(a[0], b[0]) and a[1].tolist() == b[1].tolist() for a, b in pairs)


@pytest.mark.parametrize("on_error", ["skip", "replace"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_next_run_honours_what_a_run_listed(files, backend, on_error, caplog, monkeypatch):
    """Whichever backend wrote the list and whichever reads it: the same batches, and nothing tried twice."""
    _, broken = files
    options = {"on_error": on_error, "max_bad": 1.0, "num_workers": 0}
    first = list(loader(broken, backend=backend, **options))
    path = default_quarantine(BetonDataset(broken))
    assert [entry["path"] for entry in entries(path)] == [f"{broken}#{index}" for index in BROKEN]
    assert all(entry["lasting"] and entry["size"] == broken.stat().st_size for entry in entries(path))
    asked = recorded(monkeypatch)
    caplog.clear()
    for name in [backend, "torchvision"]:
        with caplog.at_level(logging.WARNING, "fastpipe"):
            assert same(first, loader(broken, backend=name, **options))
        assert "3 samples are in the quarantine list" in caplog.text
    assert asked and not set(BROKEN) & set(asked)
    assert len(entries(path)) == 3, "known samples are not listed twice"


def recorded(monkeypatch):
    """The indices whose bytes were asked for from now on."""
    asked = []
    kept = BetonDataset.rgb
    encoded = Beton.encoded

    def rgb(dataset, index):
        asked.append(index)
        return kept(dataset, index)

    def read(beton, index):
        asked.append(int(index))
        return encoded(beton, index)

    monkeypatch.setattr(BetonDataset, "rgb", rgb)
    monkeypatch.setattr(Beton, "encoded", read)
    return asked


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_repaired_file_is_used_again(files, backend, caplog):
    """The list holds for the file as it was: a sound one of the same name is read whole, with no warning."""
    sound, broken = files
    options = {"backend": backend, "max_bad": 1.0}
    list(loader(broken, **options))
    shutil.copy(sound, broken)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fastpipe"):
        again = list(loader(broken, **options))
    assert same(again, loader(sound, backend="torchvision", on_error="raise"))
    assert "quarantine" not in caplog.text


def test_a_line_by_hand_names_an_entry(files, tmp_path):
    """{"path": "FILE.beton#3"} leaves out entry 3 of that file and of no other."""
    sound, _ = files
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps({"path": f"{sound}#3"}) + "\n" + json.dumps({"path": "other.beton#4"}) + "\n")
    batches = list(loader(sound, on_error="skip", quarantine=path))
    assert [len(batch[0]) for batch in batches] == [3, 4, 4]
    whole = list(loader(sound, on_error="raise"))
    assert torch.equal(batches[0][0], whole[0][0][:3])
