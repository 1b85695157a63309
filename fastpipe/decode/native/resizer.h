// Pillow's resize of RGB images, byte for byte: the first pass, or both, as rows arrive.
// Formula: Pillow's ImagingResample (two passes, each rounded to 8 bits, coefficients with 22 fractional bits).
#pragma once
#include <cstddef>
#include <cstdint>

#include "decoder.h"

namespace turbo {

enum class Filter : std::uint8_t { nearest = 0, bilinear, bicubic, box, hamming, lanczos };

// One thread's resizer; it keeps its memory and its coefficients from image to image.
//
//   resizer.prepare(in, out, window, filter)      the whole of `in` -> `out`, of which only `window` is made
//   Box need = resizer.source()                   the part of `in` that the window needs
//   decoder.decode(need moved to the place of `in` in the image, resizer)
//   resizer.finish(target, stride)                RGB, three bytes a pixel
class Resizer final : public RowSink {
public:
    struct Size {
        int width, height;
    };
    // A part of an image, whose ends may lie within pixels.
    struct Part {
        double left, top, right, bottom;
    };
    Resizer();
    ~Resizer() override;
    Resizer(const Resizer&) = delete;
    Resizer& operator=(const Resizer&) = delete;

    // False where memory fails. `in` equal to `out` copies, as Pillow does. `tall_rows_first`: the order of passes
    // that Pillow has since 13.0 where the height shrinks most; until 12 the horizontal one is always first.
    bool prepare(Size in, Size out, const Box& window, Filter filter, bool tall_rows_first = true) noexcept;
    // Only `part` of `in`, with the pixels at its ends in part, as Pillow's resize(box=...).
    bool prepare(Size in, const Part& part, Size out, const Box& window, Filter filter,
                 bool tall_rows_first = true) noexcept;
    Box source() const noexcept;
    std::uint8_t* row(int y) noexcept override;   // y counts from source().top
    void written(int y) noexcept override;
    void finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept;  // window.height rows of 3 * window.width
    void trim() noexcept;  // gives back what an unusual image needed

private:
    struct State;
    State* state_;
};

}  // namespace turbo
