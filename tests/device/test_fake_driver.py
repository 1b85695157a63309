"""What the CUDA path asks of driver and torch, in which order and on which stream, as a fake GPU sees it.

The kernels are the real ones, compiled to PTX; the fake driver reads from it what each of them takes.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastpipe.device.draws.draw import ErasingParams, Params
from fastpipe.device.engines import cuda_trust
from fastpipe.device.engines.cuda import CudaEngine
from fastpipe.device.engines.cuda_selfcheck import _check_params, _check_sizes_and_mixes
from fastpipe.device.stage import DeviceStage
from fastpipe.device.transfer import Transfer
from fastpipe.errors import BackendError
from fastpipe.kernels.cuda import cache as cuda_cache
from fastpipe.kernels.cuda import ops as cuda_ops
from fastpipe.kernels.cuda.compile import missing_package
from fastpipe.kernels.cuda.driver import Driver, DriverError
from fastpipe.transforms import ColOut, HorizontalFlip, MixUp, Normalize, RandAugment, RandomErasing, ToFloat
from fastpipe.types import HostBatch, Plan, Request


def _module(name: str) -> Any:
    """A helper beside this file, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_gpu = _module("fake_gpu")
DEVICE, MAIN = fake_gpu.DEVICE, fake_gpu.MAIN
NORM = Normalize(mean=(0.5,) * 3, std=(0.5,) * 3)
PLAIN = (HorizontalFlip(p=0.5), RandAugment(), ToFloat(), NORM)
FULL = (*PLAIN[:2], ColOut(), ToFloat(), NORM, RandomErasing(p=1.0), MixUp(alpha=0.2))

pytestmark = [
    pytest.mark.cuda_gates,
    pytest.mark.skipif(missing_package() is not None, reason="numba-cuda is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile the fake driver with"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(fake_gpu.compiled(tmp_path_factory.mktemp("fake")))


@pytest.fixture
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = fake_gpu.installed(monkeypatch, library)
    # Nothing computes here: the self-check has its own tests.
    monkeypatch.setattr("fastpipe.device.engines.cuda.doubt", lambda device, differences: "")
    with made:
        yield made
    for kept in (cuda_ops._load_kernels, cuda_ops._identity_levels, fake_gpu.transfer.side_stream):
        kept.cache_clear()


def stage(steps: Any, **options: Any) -> DeviceStage:
    plan = Plan(decode=None, host=(), device=steps, notes=())
    made = DeviceStage(plan, device=DEVICE, num_classes=10, **options)
    assert isinstance(made.engine, CudaEngine)
    return made


class Buffers:
    """Page-locked batches of a source that fills a buffer again as soon as nobody holds it."""

    def __init__(self, gpu: Any, num: int = 4) -> None:
        self.gpu, self.num = gpu, num
        self.arrays = [np.zeros((num, 16, 20, 3), np.uint8) for _ in range(2)]
        for array in self.arrays:
            gpu.host(array)

    def batch(self, number: int) -> HostBatch:
        array = self.arrays[number % 2]
        lease = array[:]  # its end is the tensor's
        weakref.finalize(lease, self.gpu.note, f"reuse {array.ctypes.data}").atexit = False
        images = torch.from_numpy(lease)
        ids = np.arange(self.num)
        request = Request(seed=1, epoch=0, batch=number, ids=ids, repeats=np.zeros_like(ids))
        labels = torch.arange(self.num).pin_memory()
        return HostBatch(images=images, labels=labels, request=request)


def train(gpu: Any, made: DeviceStage, batches: int = 4, *, finish: bool = False) -> None:
    """A loop as a script has it: one batch ahead, the model reads on the script's stream."""
    buffers = Buffers(gpu)
    for number in range(batches):
        batch = made.hand_over(made(buffers.batch(number)))
        gpu.read(batch.images)
        gpu.read(batch.labels)
        if finish:
            gpu.finish()


def words(gpu: Any, *kinds: str) -> list[list[str]]:
    return [line.split() for line in gpu.log() if line.split()[0] in kinds]


@pytest.mark.parametrize("steps", [PLAIN, FULL], ids=["plain", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_nothing_is_reused_or_read_too_early_and_the_host_never_waits(
    gpu: Any, steps: Any, dtype: torch.dtype
) -> None:
    made = stage(steps, dtype=dtype)
    made.warm_up()
    settled = len(gpu.log())
    train(gpu, made)
    assert fake_gpu.hazards(gpu.log()) == []
    waits = [line for line in gpu.log()[settled:] if line.startswith("sync_stream")]
    assert waits == [], "after the warm-up the host waits for nothing"


def test_copies_kernels_and_the_event_are_on_the_side_stream_in_this_order(gpu: Any) -> None:
    made = stage(PLAIN)
    made.warm_up()
    side = made.transfer.stream.cuda_stream
    gpu.driver.fake_forget()
    train(gpu, made, 1)
    streams = {line[1] for line in words(gpu, "copy", "launch", "record")}
    assert streams == {str(side)}
    order = [line[0] for line in words(gpu, "copy", "launch", "record", "wait")]
    firsts = [order.index(kind) for kind in ("copy", "launch", "record", "wait")]
    assert firsts == sorted(firsts) and order[-2:] == ["record", "wait"]
    assert words(gpu, "wait")[0][1] == str(MAIN)


def test_every_thread_keeps_out_of_captures_while_it_works_and_no_longer(gpu: Any) -> None:
    made = stage(PLAIN)
    gpu.driver.fake_forget()
    made.warm_up()
    log = [
        line.split()[0] + line.split()[-1] for line in gpu.log() if "capture_mode" in line or "copy" in line
    ]
    assert log[0] == "capture_mode1" and log[-1] == "capture_mode0"


def test_a_batch_is_not_fetched_while_a_graph_is_captured(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage(PLAIN)
    batch = made(Buffers(gpu).batch(0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(BackendError, match=r"while a CUDA graph is captured.*static\.copy_"):
        made.hand_over(batch)


def test_pinned_memory_is_let_go_when_its_event_is_over(gpu: Any) -> None:
    made = stage(PLAIN)
    train(gpu, made, 6, finish=True)
    assert len(made.transfer._in_flight) == 1 and words(gpu, "reuse")
    assert fake_gpu.hazards(gpu.log()) == []


# --- each of these would be wrong pixels, now and then, on a real GPU --------------------------------------


def test_the_gate_sees_a_buffer_reused_before_its_event(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transfer, "_keep", lambda self, done, data: None)
    train(gpu, stage(PLAIN))
    assert any("reused while stream" in text and ": reuse " in text for text in fake_gpu.hazards(gpu.log()))


def test_the_gate_sees_memory_of_the_device_freed_under_the_model(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_record(self: Transfer, data: Any, ready: Any) -> None:
        torch.cuda.current_stream(self.device).wait_event(ready)

    monkeypatch.setattr(Transfer, "hand_over", no_record)
    train(gpu, stage(PLAIN))
    assert any(f"stream {MAIN} may still use it: free_device" in text for text in fake_gpu.hazards(gpu.log()))


def test_the_gate_sees_a_model_that_does_not_wait(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_gpu.Stream, "wait_event", lambda self, event: None)
    train(gpu, stage(PLAIN))
    assert any(text.startswith("unordered") and "model" in text for text in fake_gpu.hazards(gpu.log()))


def test_the_gate_sees_a_copy_that_holds_the_host(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpipe.device.engines.cuda.pinned", lambda values, device: values)
    train(gpu, stage(PLAIN))
    assert any(text.startswith("the host waits") for text in fake_gpu.hazards(gpu.log()))


# --- the driver's interface --------------------------------------------------------------------------------


def launches(gpu: Any) -> dict[str, list[str]]:
    """The arguments of the last launch of each kernel."""
    return {line[2]: line[5:] for line in words(gpu, "launch")}


def test_kernels_get_pointers_into_their_buffers_and_whole_numbers(gpu: Any) -> None:
    """Out of the C library, which took as many bytes for each as the kernel's PTX says."""
    images = torch.zeros((4, 16, 20, 3), dtype=torch.uint8).pin_memory().to(DEVICE, non_blocking=True)
    engine = CudaEngine(DEVICE, check=False)
    output = stage(PLAIN, dtype=torch.float16).output
    out = engine.finish(images, Params(), output)
    (arguments,) = [given for name, given in launches(gpu).items() if "packed_nchw" in name]
    assert [value for value in arguments if value[0] == "n"] == ["n16", "n20"]
    pointers = [int(value[1:]) for value in arguments if value[0] == "p"]
    assert pointers[0] == pointers[1] == images.data_ptr() and pointers[6] == out.data_ptr()
    tables, points = words(gpu, "launch")
    assert "fill_tables" in tables[2] and tables[3:5] == ["4,1,1", "768,1,1"]
    assert points[3:5] == ["1,4,1", "256,1,1"]


def launched_on_another_stream(gpu: Any) -> int:
    """A batch of the script, read by kernels on another stream that waits for it; then nobody holds it."""
    images = torch.zeros((4, 16, 20, 3), dtype=torch.uint8).pin_memory().to(DEVICE, non_blocking=True)
    engine, output = CudaEngine(DEVICE, check=False), stage(PLAIN).output
    engine.finish(images, Params(), output)  # tables that are kept are on the device from here on
    event, other = fake_gpu.Event(gpu), fake_gpu.Stream(gpu)
    event.record(gpu.main)
    other.wait_event(event)
    with gpu.on(other):
        engine.finish(images, Params(), output)
    return int(other.cuda_stream)


def test_kernels_of_another_stream_keep_their_buffers_until_they_are_done(gpu: Any) -> None:
    stream = launched_on_another_stream(gpu)
    assert [line[1] for line in words(gpu, "launch")] == [str(MAIN)] * 2 + [str(stream)] * 2
    assert words(gpu, "free_device") and fake_gpu.hazards(gpu.log()) == []


def test_the_gate_sees_buffers_that_the_allocator_is_not_told_of(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    stream = launched_on_another_stream(gpu)
    assert any(f"stream {stream} may still use it" in text for text in fake_gpu.hazards(gpu.log()))


@pytest.mark.parametrize("name", [name for name, _ in _check_sizes_and_mixes(2, 64, 72)])
def test_every_pass_launches_within_the_devices_limits(gpu: Any, name: str) -> None:
    """The fake driver refuses a grid, a block or a parameter list that cuda.h does not allow."""
    params = dict(_check_sizes_and_mixes(4, 64, 72))[name]
    images = torch.zeros((4, 64, 72, 3), dtype=torch.uint8).pin_memory().to(DEVICE, non_blocking=True)
    for dtype in (torch.bfloat16, torch.float32):
        CudaEngine(DEVICE, check=False).finish(images, params, stage(PLAIN, dtype=dtype).output)
    assert words(gpu, "launch") and fake_gpu.hazards(gpu.log()) == []


def test_a_new_thread_makes_the_context_current_before_it_launches(gpu: Any) -> None:
    gpu.driver.fake_forget()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            Driver.shared().enter(1)
            Driver.shared().enter(1)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed and gpu.log() == ["cuInit", "retain 1"]


@pytest.mark.parametrize(
    "call", ["cuCtxGetCurrent", "cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel"]
)
def test_an_error_code_is_raised_with_the_drivers_words_and_loses_nothing(gpu: Any, call: str) -> None:
    """The engine serves again when the driver does; what was in flight is still held."""
    made, buffers = stage(PLAIN), Buffers(gpu)
    gpu.fail(call, 700)
    with pytest.raises(
        DriverError, match=rf"{call}: an illegal memory access was encountered \(700\)"
    ) as raised:
        made(buffers.batch(0))
    assert raised.value.sticky and len(made.transfer._in_flight) == 1
    assert gpu.log()[-1] != "capture_mode 1", "the thread takes part in captures again"
    made.hand_over(made(buffers.batch(1)))
    assert fake_gpu.hazards(gpu.log()) == []


def test_out_of_memory_is_torchs_error(gpu: Any) -> None:
    gpu.fail("cuModuleLoadData", 2)
    with pytest.raises(
        torch.OutOfMemoryError, match=r"CUDA out of memory in cuModuleLoadData: out of memory"
    ):
        stage(PLAIN).warm_up()


def test_ptx_that_the_driver_refuses_could_not_start(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_trust.forget()
    gpu.fail("cuModuleLoadData", 218)
    reason = cuda_trust.doubt(DEVICE, lambda: pytest.fail("nothing is checked that did not start"))
    cuda_trust.forget()
    assert re.fullmatch(r"could not start: CUDA error in cuModuleLoadData: a PTX JIT .* \(218\)", reason)


def test_the_drivers_version_is_asked(gpu: Any) -> None:
    assert Driver.shared().version() == 13000


def test_erasing_numbers_do_not_hold_the_host(gpu: Any) -> None:
    images = torch.zeros((4, 16, 20, 3), dtype=torch.uint8).pin_memory().to(DEVICE, non_blocking=True)
    boxes = np.array([[1, 1, 4, 4]] * 4)
    erasing = ErasingParams(boxes=boxes, apply=np.ones(4, bool), value=(0.5, -1.0, 2.0))
    engine = CudaEngine(DEVICE, check=False)
    engine.finish(images, Params(erasing=erasing), stage(PLAIN).output)
    assert not words(gpu, "copy_that_waits") and any("erase" in line[2] for line in words(gpu, "launch"))


def test_a_policys_batch_has_the_launches_of_its_plan(gpu: Any) -> None:
    images = torch.zeros((24, 16, 20, 3), dtype=torch.uint8).pin_memory().to(DEVICE, non_blocking=True)
    engine = CudaEngine(DEVICE, check=False)
    engine.finish(images, _check_params(1, 24, 16, 20), stage(PLAIN, dtype=torch.float16).output)
    names = " ".join(launches(gpu))
    for kernel in ("statistics", "fill_tables", "warp_bilinear", "blended"):
        assert kernel in names, names


def test_the_log_is_not_blind_to_a_pointer_into_nothing(gpu: Any) -> None:
    driver = Driver.shared()
    driver.enter(0)
    driver.load(0, "plain_8", cuda_cache.ptx_files((9, 0), ["plain_8"])["plain_8"])
    arguments = [4096] * 6 + [1] * 4
    driver.launch(0, "plain_8", (1, 1, 1), (256, 1, 1), 1, arguments)
    assert any("into no memory" in text for text in fake_gpu.hazards(gpu.log()))
    with pytest.raises(DriverError, match=r"cuLaunchKernel: unknown error \(1\)"):
        driver.launch(0, "plain_8", (1, 70_000, 1), (256, 1, 1), 1, arguments)
