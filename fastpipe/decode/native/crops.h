// Where to crop: fastpipe/decode/boxes.py in C++, the same numbers from the same uniforms.
#pragma once
#include "decoder.h"

namespace turbo {

enum class Where : std::uint8_t { whole = 0, resized_crop, center, random };

constexpr int kLongestSide = 1 << 30;  // of a Step's sizes and padding: sums stay far from 2^63
constexpr int kCropUniforms = 22;      // ten attempts of two numbers, and the position
constexpr std::int64_t kMostResizedPixels = 2 * std::int64_t(89478485);  // as decode/pillow.py has it

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
    bool tall_rows_first;             // the resize's order of passes: see resizer.h
    bool fast;                        // a smaller image may be decoded where the result is smaller
};

// How many uniform numbers an image needs.
int num_uniforms(const Step& step) noexcept;

// The size of every image's result; false where it depends on the image.
bool fixed_size(const Step& step, int& height, int& width) noexcept;

// draw_box: in the image for RandomResizedCrop, in the resized image for ResizeCrop, where it may reach outside.
// False where Python raises, and for a box without pixels.
bool draw_box(const Step& step, const double* uniforms, int height, int width, Box& box) noexcept;

// The size that ResizeCrop resizes a whole image to; its own without a resize. False beyond kMostResizedPixels.
bool resized(const Step& step, int height, int width, int& out_height, int& out_width) noexcept;

// What happens to one image: its part `in` becomes `out_width` x `out_height`, of which `window` is the result.
struct Plan {
    Box in;
    int out_width, out_height;
    Box window;  // may reach outside: black there
};

// The plan for an image of `height` x `width`. Any other status than `done` hands it to Pillow.
Status plan(const Step& step, const double* uniforms, int height, int width, const Limits& limits,
            Plan& made) noexcept;

}  // namespace turbo
