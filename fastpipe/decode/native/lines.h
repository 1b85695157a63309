// One line at a time: upsampling as in libjpeg's jdsample.c, colour as in its jdcolor.c.
#pragma once
#include <cstdint>

#include "decoder.h"

namespace turbo {

// Kernels read up to 64 bytes past the samples they need and write up to 64 past the samples they make, except
// for colours, which write at most 32 past.
struct LineKernels {
    // 2 * count samples from `count`. The neighbours in[-1] and in[count] are read.
    void (*fancy_h2v1)(const std::uint8_t* in, int count, std::uint8_t* out);
    // The same from a line and the next nearest one.
    void (*fancy_h2v2)(const std::uint8_t* near, const std::uint8_t* far, int count, std::uint8_t* out);
    // `bias`: 1 where `far` is above, 2 where it is below.
    void (*fancy_h1v2)(const std::uint8_t* near, const std::uint8_t* far, int bias, int count, std::uint8_t* out);
    // RGBX.
    void (*ycc)(const std::uint8_t* y, const std::uint8_t* cb, const std::uint8_t* cr, int count,
                std::uint8_t* out);
    void (*rgb)(const std::uint8_t* r, const std::uint8_t* g, const std::uint8_t* b, int count, std::uint8_t* out);
    void (*grey)(const std::uint8_t* y, int count, std::uint8_t* out);
};

const LineKernels& line_kernels(Simd simd) noexcept;

// Each sample `times` times.
void replicate(const std::uint8_t* in, int times, int count, std::uint8_t* out) noexcept;

#if defined(__x86_64__)
extern const LineKernels line_kernels_avx2;
#endif

}  // namespace turbo
