// The two passes of a resize: rows of RGBX to rows of RGB, then columns of bytes.
#pragma once
#include "axis.h"

namespace turbo {

constexpr int kRowSlack = 64;  // bytes after a row that a pass may read, or overwrite

struct Passes {
    // Two rows at once, which may be the same. `in` begins at axis.start(); four pixels are there at least.
    void (*horizontal)(const Axis& axis, const std::uint8_t* const in[2], std::uint8_t* const out[2]) noexcept;
    // Drop X.
    void (*pack)(const std::uint8_t* in, int num, std::uint8_t* out) noexcept;
    // Output row `i` from rows of `size` bytes, `stride` apart, from row `begin` on, counted from axis.start().
    // One row more than axis.length() is there. Nothing beyond out[size - 1] is written.
    void (*vertical)(const Axis& axis, int i, const std::uint8_t* in, int begin, std::ptrdiff_t stride, int size,
                     std::uint8_t* out) noexcept;
};

// The passes for an instruction set; those that need Axis::has_pairs() only where it has.
Passes passes(Simd simd, const Axis& horizontal, const Axis& vertical) noexcept;

extern const Passes kScalarPasses;
#if defined(__x86_64__)
extern const Passes kAvx2Passes;
#elif defined(__aarch64__)
extern const Passes kNeonPasses;
#endif

}  // namespace turbo
