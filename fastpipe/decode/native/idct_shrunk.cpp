// Smaller inverse DCTs: the N x N lowest frequencies of an 8 x 8 block, transformed as a block of N x N and scaled by
// N / 8, are the block's mean pixels but for the frequencies that a smaller image cannot have.
#include <cstring>

#include "idct.h"

namespace turbo {
namespace {

#define TURBO_ALWAYS inline __attribute__((always_inline))

// 11 fractional bits, and 2 between the passes, keep every sum below 2^31 for any 16-bit input.
constexpr int bits = 11, between = 2;

// sqrt(4 / 8) * c(u) * cos((2x + 1) u pi / 8), with c(0) = 1 / 2 and c(u) = 1 / sqrt(2): row u, column x.
constexpr int basis[4][4] = {
    {724, 724, 724, 724}, {946, 392, -392, -946}, {724, -724, -724, 724}, {392, -946, 946, -392}};

TURBO_ALWAYS int dequantised(const std::int16_t* in, const std::uint16_t* quant, int i) {
    return std::int16_t(std::uint16_t(std::uint32_t(in[i]) * quant[i]));
}

TURBO_ALWAYS std::uint8_t sample(int value) {
    value += 128;
    return std::uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

TURBO_ALWAYS void four(const std::int16_t* in, const std::uint16_t* quant, std::uint8_t* out, std::ptrdiff_t stride) {
    int columns[4][4] = {};  // row x of the result, still in frequencies along the row
    for (int u = 0; u < 4; ++u) {
        int row[4];
        for (int i = 0; i < 4; ++i) row[i] = dequantised(in, quant, 8 * u + i);
        for (int x = 0; x < 4; ++x) {
            for (int i = 0; i < 4; ++i) columns[x][i] += row[i] * basis[u][x];
        }
    }
    for (int y = 0; y < 4; ++y) {
        int sums[4] = {};
        for (int u = 0; u < 4; ++u) {
            const int value = (columns[y][u] + (1 << (bits - between - 1))) >> (bits - between);
            for (int x = 0; x < 4; ++x) sums[x] += value * basis[u][x];
        }
        std::uint8_t row[4];
        for (int x = 0; x < 4; ++x) row[x] = sample((sums[x] + (1 << (bits + between - 1))) >> (bits + between));
        std::memcpy(out + y * stride, row, 4);
    }
}

// The means of a block's quarters: both passes add and subtract, the factors come to 1 / 8.
void two(const std::int16_t* in, const std::uint16_t* quant, int, std::uint8_t* out, std::ptrdiff_t stride) {
    const int mean = dequantised(in, quant, 0), across = dequantised(in, quant, 1);
    const int down = dequantised(in, quant, 8), both = dequantised(in, quant, 9);
    out[0] = sample((mean + across + down + both + 4) >> 3);
    out[1] = sample((mean - across + down - both + 4) >> 3);
    out[stride] = sample((mean + across - down - both + 4) >> 3);
    out[stride + 1] = sample((mean - across - down + both + 4) >> 3);
}

void one(const std::int16_t* in, const std::uint16_t* quant, int, std::uint8_t* out, std::ptrdiff_t) {
    out[0] = sample((dequantised(in, quant, 0) + 4) >> 3);
}

void four_plain(const std::int16_t* in, const std::uint16_t* quant, int, std::uint8_t* out, std::ptrdiff_t stride) {
    four(in, quant, out, stride);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void four_avx2(const std::int16_t* in, const std::uint16_t* quant, int,
                                               std::uint8_t* out, std::ptrdiff_t stride) {
    four(in, quant, out, stride);
}
#endif

}  // namespace

Idct idct_shrunk_for(int edge, Simd simd) noexcept {
    if (edge == 1) return one;
    if (edge == 2) return two;
#if defined(__x86_64__)
    if (simd == Simd::avx2) return four_avx2;
#endif
    (void)simd;
    return four_plain;
}

}  // namespace turbo
