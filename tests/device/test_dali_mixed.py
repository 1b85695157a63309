"""What DALI decodes on a GPU stays there, on torch's stream, as a fake GPU sees it.

DALI's own CPU decoder makes the pixels. A stand-in for its TensorListGPU holds them, and no way to the host.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms

import fastpipe
from fastpipe.backends.dali import backend as dali
from fastpipe.backends.dali import pipeline as dali_pipeline
from fastpipe.backends.dali.pipeline import Graph
from fastpipe.kernels.cuda.compile import missing_package

pytestmark = [
    pytest.mark.dali,
    pytest.mark.skipif(missing_package() is not None, reason="numba-cuda is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile the fake driver with"),
]
JPEGS = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
PNGS = [7, 15, 23]  # Pillow's
STEPS = transforms.Compose([transforms.RandomResizedCrop(24), transforms.PILToTensor()])


def _module(name: str) -> Any:
    """A helper beside this file, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_gpu = _module("fake_gpu")


class TensorGPU:
    """As nvidia.dali's: device memory that only a copy on a stream can be had of."""

    def __init__(self, gpu: Any, pixels: Any) -> None:
        from nvidia.dali.types import DALIDataType

        self.gpu, self.pixels, self.dtype = gpu, pixels, DALIDataType.UINT8
        at = pixels.ctypes.data
        gpu.memory[at] = pixels.nbytes
        # Another tensor may lie there afterwards, and that one is the host's.
        weakref.finalize(pixels, gpu.memory.pop, at, None).atexit = False
        gpu.note(f"alloc_device {pixels.ctypes.data} {pixels.nbytes} {DALIS}")

    def shape(self) -> list[int]:
        return list(self.pixels.shape)

    def copy_to_external(
        self, ptr: ctypes.c_void_p, cuda_stream: ctypes.c_void_p | None = None, non_blocking: bool = False
    ) -> None:
        assert ptr.value is not None and non_blocking and cuda_stream is not None
        assert ptr.value in self.gpu.memory, "to the host"
        ctypes.memmove(ptr.value, self.pixels.ctypes.data, self.pixels.nbytes)
        self.gpu.note(f"op {cuda_stream.value or 0} dali {ptr.value}")

    def _to_the_host(self, *args: Any, **options: Any) -> Any:
        pytest.fail("a decoded batch was copied from the GPU to the host")

    as_cpu = __array__ = _to_the_host


class TensorListGPU:
    """As nvidia.dali's."""

    def __init__(self, gpu: Any, images: Any) -> None:
        self.gpu, self.images = gpu, images

    def is_dense_tensor(self) -> bool:
        return bool(self.images.is_dense_tensor())

    def as_tensor(self) -> TensorGPU:
        return TensorGPU(self.gpu, np.array(self.images.as_tensor()))

    as_cpu = __array__ = __getitem__ = at = TensorGPU._to_the_host


DALIS = 77  # the stream that DALI decodes on
WARM_UP = 2  # copies of the image and the label that a loader tries its device stage with


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    plugin = pytest.importorskip(
        "nvidia.dali.plugin.pytorch.torch_utils", reason="the dali extra is not installed"
    )
    made = fake_gpu.installed(monkeypatch, Path(fake_gpu.compiled(tmp_path)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("FASTPIPE_DALI_MIXED", "1")
    monkeypatch.setattr(dali, "mixed_form", lambda device: ("region", {}))
    build, result = dali_pipeline._build, dali_pipeline.Runner.result

    def on_cpu(graph: Graph, *rest: Any, **options: Any) -> Any:
        return build(replace(graph, mixed="", device=0), *rest, **options)

    def as_if_decoded_there(runner: Any) -> Any:
        images = result(runner)
        return TensorListGPU(made, images) if runner.graph.mixed else images

    monkeypatch.setattr(dali_pipeline, "_build", on_cpu)
    monkeypatch.setattr(dali_pipeline.Runner, "result", as_if_decoded_there)
    monkeypatch.setattr(plugin, "TensorGPU", TensorGPU)
    yield made
    fake_gpu.transfer.side_stream.cache_clear()


def batches(root: Path, order: Sequence[int], device: Any, **options: Any) -> list[Any]:
    loader = fastpipe.DataLoader(
        root,
        batch_size=4,
        sampler=order,
        seed=5,
        engine="none",
        transform=STEPS,
        numerics="fast",
        backend="dali",
        device=device,
        pin_memory=device != "cpu",
        quarantine=False,
        **options,
    )
    return [(images, labels) for images, labels, _ in loader]


def on_gpu(gpu: Any, root: Path, order: Sequence[int], **options: Any) -> list[Any]:
    """The batches as the CPU sees them, after the script's stream has waited for them."""
    with gpu, gpu.on(fake_gpu.Stream(gpu)):
        found = batches(root, order, fake_gpu.DEVICE, **options)
        for images, _ in found:
            assert images.is_cuda
            gpu.read(images)
    return found


def on_cpu(root: Path, order: Sequence[int], **options: Any) -> list[Any]:
    """The same by the CPU's form."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FASTPIPE_DALI_MIXED")
        return batches(root, order, "cpu", **options)


def same(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Images and labels are equal."""
    return len(found) == len(expected) and all(
        torch.equal(ours, theirs)
        for one, other in zip(found, expected, strict=True)
        for ours, theirs in zip(one, other, strict=True)
    )


def words(log: Sequence[str], word: str) -> list[list[str]]:
    """The lines that hold the word, split."""
    return [line.split() for line in log if word in line.split()]


def test_a_decoded_batch_stays_on_the_device_and_is_copied_on_torchs_stream(gpu: Any, photos: Path) -> None:
    found = on_gpu(gpu, photos, JPEGS)
    log = gpu.log()
    copies = words(log, "dali")
    (stream,) = {copy[1] for copy in copies}
    assert len(copies) == len(found) == 3 and int(stream) != fake_gpu.MAIN  # the current stream is used
    for copy in copies:
        behind = log[log.index(" ".join(copy)) + 1]
        assert behind == f"sync_stream {stream}"  # the device stage's stream may read now, DALI may write
    assert fake_gpu.hazards(log) == []
    assert len(words(log, "copy")) == WARM_UP + 3  # the labels, from page-locked memory
    assert same(found, on_cpu(photos, JPEGS))


def test_what_pillow_decoded_is_copied_to_the_device_and_nothing_else(gpu: Any, photos: Path) -> None:
    order = [*PNGS[:1], *JPEGS[:2], *PNGS[1:], *JPEGS[2:5]]
    found = on_gpu(gpu, photos, order)
    log = gpu.log()
    assert len(words(log, "dali")) == 2 and len(words(log, "copy_")) == len(PNGS)
    assert len(words(log, "copy")) == WARM_UP + 2  # the labels
    assert fake_gpu.hazards(log) == []
    assert same(found, on_cpu(photos, order))


def test_what_the_policy_drops_is_dropped_on_the_device(gpu: Any, photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(photos, broken)
    for number in (2, 5):
        path = sorted(broken.rglob("*.jpg"))[number]
        path.write_bytes(path.read_bytes()[:90])
    options = {"on_error": "skip", "max_bad": 1.0}
    found = on_gpu(gpu, broken, JPEGS, **options)
    assert [len(labels) for _, labels in found] == [3, 3, 4]
    log = gpu.log()
    stream = words(log, "dali")[0][1]
    picked = [number for number, line in enumerate(log) if "__getitem__" in line.split()]
    assert picked and all(f"sync_stream {stream}" in log[number + 1 : number + 3] for number in picked[-1:])
    assert fake_gpu.hazards(log) == []
    assert same(found, on_cpu(broken, JPEGS, **options))


def test_a_batch_without_a_place_of_dalis_comes_from_the_host(gpu: Any, photos: Path) -> None:
    found = on_gpu(gpu, photos, PNGS)
    assert not words(gpu.log(), "dali")
    assert same(found, on_cpu(photos, PNGS))


def test_policy_operations_of_torchs_engine_take_it_to_the_cpu(photos: Path) -> None:
    """engine="torch" runs them there: what a decoder left on a GPU is fetched, in place of an error."""
    from fastpipe.device.draws.draw import draw
    from fastpipe.device.engines.protocol import augment_on_cpu
    from fastpipe.transforms import RandAugment
    from fastpipe.types import Request

    class OnGpu:
        def __init__(self, levels: torch.Tensor) -> None:
            self.levels = levels

        def cpu(self) -> torch.Tensor:
            return self.levels

    ids = np.arange(3)
    request = Request(seed=1, epoch=0, batch=0, ids=ids, repeats=np.zeros_like(ids))
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8))
    params = draw((RandAugment(),), request, 16, 20)
    fetched = augment_on_cpu(OnGpu(levels), params)  # type: ignore[arg-type]
    assert torch.equal(fetched, augment_on_cpu(levels, params)) and not torch.equal(fetched, levels)


def test_the_stand_ins_have_no_method_that_dali_has_not() -> None:
    backend = pytest.importorskip("nvidia.dali.backend", reason="the dali extra is not installed")
    for ours, theirs in ((TensorGPU, backend.TensorGPU), (TensorListGPU, backend.TensorListGPU)):
        told = {name for name in vars(ours) if not name.startswith("_")}
        assert told and told <= set(dir(theirs))
    assert all(word in backend.TensorGPU.copy_to_external.__doc__ for word in ("cuda_stream", "non_blocking"))
