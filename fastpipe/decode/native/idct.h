// The inverse DCT of libjpeg-turbo's SIMD code (islow), whose intermediate values have 16 bits.
#pragma once
#include <cstddef>
#include <cstdint>

#include "decoder.h"

namespace turbo {

// `coefficients` row by row, not dequantised, aligned to 32 bytes; `last` is a place in zigzag order behind which
// all are zero (63 where it is not known). Writes 8 x 8 samples.
using Idct = void (*)(const std::int16_t* coefficients, const std::uint16_t* quant, int last, std::uint8_t* out,
                      std::ptrdiff_t stride);

Idct idct_for(Simd simd) noexcept;

// edge x edge samples, for 4, 2 and 1, of the lowest frequencies; not libjpeg's.
Idct idct_shrunk_for(int edge, Simd simd) noexcept;

// A block, where it goes and with what factors.
struct IdctTask {
    const std::int16_t* coefficients;
    const std::uint16_t* quant;
    std::uint8_t* out;
    std::ptrdiff_t stride;
};

// Two blocks at once, one in each half of the registers, take 1.4 times as long as one.
using IdctPair = void (*)(const IdctTask (&tasks)[2]);

IdctPair idct_pair_for(Simd simd) noexcept;

}  // namespace turbo
