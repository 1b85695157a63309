"""Stock FFCV reads what we write, and we read what stock FFCV writes: pixels and labels equal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastpipe.storage import BetonDataset, verify_beton, write_beton

pytestmark = pytest.mark.ffcv

# In a process of its own: FFCV's threads and its change of torch's thread count stay there.
READ_WITH_FFCV = """
import json, sys
import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
path, out, cached = sys.argv[1:]
reader = Reader(path)
sizes = {(int(h), int(w)) for h, w in zip(reader.metadata["f0"]["height"], reader.metadata["f0"]["width"])}
loader = Loader(path, batch_size=7, num_workers=1, order=OrderOption.SEQUENTIAL, os_cache=cached == "1",
                drop_last=False, batches_ahead=1,
                pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]})
images, labels = [], []
for image, label in loader:
    images.append(image.copy())
    labels.extend(label[:, 0].tolist())
np.save(out, np.concatenate(images))
json.dump({"labels": labels, "names": reader.field_names, "sizes": len(sizes)}, sys.stdout)
"""

WRITE_WITH_FFCV = """
import sys
from ffcv.fields import FloatField, IntField, RGBImageField
from ffcv.writer import DatasetWriter
from torchvision.datasets import ImageFolder

class Triples(ImageFolder):
    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return image, 0.25, label

image = RGBImageField("proportion", compress_probability=0.5)
fields = {"image": image, "x": FloatField(), "label": IntField()}
DatasetWriter(sys.argv[2], fields, num_workers=2).from_indexed_dataset(Triples(sys.argv[1]), chunksize=4)
"""


@pytest.fixture
def same_size(tmp_path: Path) -> Path:
    """20 images of 40 x 56 pixels (FFCV's plain decoder takes one size only): colour and grey JPEG, PNG."""
    root = tmp_path / "same"
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            image = Image.fromarray(rng.integers(0, 255, (5, 7, 3), np.uint8)).resize((56, 40))
            image = image.convert("L") if i == 3 else image
            image.save(root / name / f"{i}.{'png' if i > 7 else 'jpg'}")
    return root


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    "os_cache", [pytest.param(1, id="mapped"), pytest.param(0, id="paged", marks=pytest.mark.slow)]
)
def test_stock_loader_reads_our_file(same_size: Path, tmp_path: Path, os_cache: int) -> None:
    pytest.importorskip("ffcv", reason="the ffcv extra is not installed")
    write_beton(same_size, tmp_path / "x.beton", num_workers=0)
    found = json.loads(run(READ_WITH_FFCV, tmp_path / "x.beton", tmp_path / "images.npy", os_cache))
    dataset, images = BetonDataset(tmp_path / "x.beton"), np.load(tmp_path / "images.npy")
    assert found == {"labels": list(dataset.targets), "names": ["image", "label"], "sizes": 1}
    assert images.shape == (20, 40, 56, 3)
    for i in range(20):
        ours = np.asarray(dataset.rgb(i)).astype(int)
        if dataset.beton.modes[i] == 1:
            assert np.array_equal(images[i], ours)
        else:  # FFCV decodes with the fast, less exact inverse DCT; another image differs by 60 on average
            error = np.abs(images[i] - ours)
            assert error.mean() < 2 and error.max() <= 32, i


def test_we_read_what_the_stock_writer_writes(same_size: Path, tmp_path: Path) -> None:
    pytest.importorskip("ffcv", reason="the ffcv extra is not installed")
    from torchvision.datasets import ImageFolder

    run(WRITE_WITH_FFCV, same_size, tmp_path / "stock.beton")
    dataset, folder = BetonDataset(tmp_path / "stock.beton"), ImageFolder(str(same_size))
    assert list(dataset.targets) == folder.targets and set(dataset.beton.modes.tolist()) == {0, 1}
    for i in range(20):
        error = np.abs(np.asarray(dataset.rgb(i)).astype(int) - np.asarray(folder[i][0]))
        assert error.mean() < (0.1 if dataset.beton.modes[i] else 8)
    assert verify_beton(tmp_path / "stock.beton", num_workers=0).bad == ()
