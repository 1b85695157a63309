#include "passes.h"

#include <cstring>

namespace turbo {

namespace {

constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

// Pillow's clip8, of a sum with kWeightBits of fraction.
std::uint8_t clip(std::int32_t sum) {
    const std::int32_t level = sum >> kWeightBits;
    return std::uint8_t(level < 0 ? 0 : level > 255 ? 255 : level);
}

void horizontal_row(const Axis& axis, const std::uint8_t* in, std::uint8_t* out) {
    for (int i = 0; i < axis.num(); ++i, out += 3) {
        const std::uint8_t* pixel = in + std::size_t(4) * axis.first(i);
        const std::int32_t* const weights = axis.weights(i);
        std::int32_t red = kHalf, green = kHalf, blue = kHalf;
        for (int x = 0; x < axis.count(i); ++x, pixel += 4) {
            red += pixel[0] * weights[x];
            green += pixel[1] * weights[x];
            blue += pixel[2] * weights[x];
        }
        out[0] = clip(red);
        out[1] = clip(green);
        out[2] = clip(blue);
    }
}

void horizontal(const Axis& axis, const std::uint8_t* const in[2], std::uint8_t* const out[2]) noexcept {
    horizontal_row(axis, in[0], out[0]);
    if (in[1] != in[0]) horizontal_row(axis, in[1], out[1]);
}

void pack(const std::uint8_t* in, int num, std::uint8_t* out) noexcept {
    for (int x = 0; x < num; ++x, in += 4, out += 3) std::memcpy(out, in, 3);
}

void vertical(const Axis& axis, int i, const std::uint8_t* in, int begin, std::ptrdiff_t stride, int size,
              std::uint8_t* out) noexcept {
    in += stride * (axis.first(i) - begin);
    const std::int32_t* const weights = axis.weights(i);
    for (int x = 0; x < size; ++x) {
        std::int32_t sum = kHalf;
        for (int y = 0; y < axis.count(i); ++y) sum += in[stride * y + x] * weights[y];
        out[x] = clip(sum);
    }
}

const Passes& vector_passes(Simd simd) {
#if defined(__x86_64__)
    if (simd == Simd::avx2) return kAvx2Passes;
#elif defined(__aarch64__)
    if (simd == Simd::neon) return kNeonPasses;
#endif
    (void)simd;
    return kScalarPasses;
}

}  // namespace

const Passes kScalarPasses = {horizontal, pack, vertical};

Passes passes(Simd simd, const Axis& horizontal, const Axis& vertical) noexcept {
    Passes chosen = vector_passes(simd);
    if (!horizontal.has_pairs()) chosen.horizontal = kScalarPasses.horizontal;
    if (!vertical.has_pairs()) chosen.vertical = kScalarPasses.vertical;
    return chosen;
}

}  // namespace turbo
