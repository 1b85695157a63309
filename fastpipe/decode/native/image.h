// One image: its header, its box, its pixels, at their place in the batch.
#pragma once
#include "crops.h"
#include "resizer.h"

namespace turbo {

// Where the pixels go: RGB, rows without a gap.
struct Target {
    std::uint8_t* pixels;
    int height, width;
};

// What the caller knows about an image. `opened`: Pillow has read the header without an error or a warning.
// Height and width as the storage's table has them; 0, 0: there is no table.
struct Known {
    bool opened;
    std::int64_t height, width;
};

// Wall clock of the phases; of `decode`, the passes of the resize that run as rows arrive are a part.
struct Seconds {
    double read, decode, resize;
};

double now() noexcept;  // CLOCK_MONOTONIC, in seconds

// One thread's tools, which keep their memory and tables from image to image.
class ImageMaker {
public:
    // Every byte of the target is written where the status is `done`; none may be, or some, elsewhere.
    Status make(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits,
                const Target& target, Seconds& seconds) noexcept;

    // The size that make() would need.
    Status measure(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits, int& height,
                   int& width) noexcept;

    void trim() noexcept {
        decoder_.trim();
        resizer_.trim();
    }

private:
    Status header(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits,
                  Plan& made) noexcept;
    Status pixels(const Plan& made, const Step& step, const Target& target, Seconds& seconds) noexcept;

    Decoder decoder_;
    Resizer resizer_;
};

}  // namespace turbo
