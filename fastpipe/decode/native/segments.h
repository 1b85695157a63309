// What Pillow's own parser, which runs before libjpeg, does with a file's header.
#pragma once
#include "decoder.h"

namespace turbo {

// Whether Pillow opens the JPEG without an error and without a warning, judged by the segments up to the first
// scan. False means that only Pillow can tell: segments that it might refuse (JFIF, ICC, Adobe or Photoshop
// shorter than it expects), that it reads further (EXIF without a density in JFIF, MPF), or markers that it does
// not know.
// Source: Pillow 13, JpegImagePlugin.py: APP, SOF, DQT, JpegImageFile._open, jpeg_factory.
bool pillow_opens(Bytes file) noexcept;

}  // namespace turbo
