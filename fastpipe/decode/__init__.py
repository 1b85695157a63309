"""Bytes to RGB pixels at the requested crop and size."""

from fastpipe.decode.boxes import Box as Box
from fastpipe.decode.boxes import CropError as CropError
from fastpipe.decode.boxes import draw_box as draw_box
from fastpipe.decode.boxes import num_uniforms as num_uniforms
from fastpipe.decode.boxes import random_corners as random_corners
from fastpipe.decode.pillow import crop_and_resize as crop_and_resize
from fastpipe.decode.pillow import output_size as output_size
from fastpipe.storage.image import decode_rgb as decode_rgb
from fastpipe.storage.image import read as read

__all__ = [
    "Box",
    "CropError",
    "crop_and_resize",
    "decode_rgb",
    "draw_box",
    "num_uniforms",
    "output_size",
    "random_corners",
    "read",
]
