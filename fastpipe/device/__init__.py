"""Parameters drawn, then applied to the whole batch: on the CPU with the GIL released, or on the GPU."""

from fastpipe.device.draws.draw import Params as Params
from fastpipe.device.draws.draw import draw as draw
from fastpipe.device.labels import MixedBatch as MixedBatch
from fastpipe.device.stage import DeviceStage as DeviceStage

__all__ = ["DeviceStage", "MixedBatch", "Params", "draw"]
