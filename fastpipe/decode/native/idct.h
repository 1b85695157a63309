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

}  // namespace turbo
