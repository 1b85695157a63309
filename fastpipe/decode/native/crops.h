// Where to crop: fastpipe/decode/boxes.py in C++, the same numbers from the same uniforms.
#pragma once
#include "decoder.h"

namespace turbo {

enum class Where : std::uint8_t { whole = 0, resized_crop, center, random };

// One decode step (RandomResizedCrop, ResizeCrop, or none), as Python's specs have it.
struct Step {
    Where where;
    int filter;                       // a Filter
    int out_height, out_width;        // of the crop; 0: whole
    int resize_height, resize_width;  // ResizeCrop.resize: 0, 0 none; (side, 0) the shorter side
    double scale_low, scale_high;     // RandomResizedCrop
    double log_low, log_high;         // math.log of ratio
    double ratio_low, ratio_high;
    int padding[4];                   // left, top, right, bottom (random)
};

}  // namespace turbo
