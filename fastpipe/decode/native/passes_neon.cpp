// Sums of the high and of the low parts of the weights, as in passes_avx2.cpp: modulo 2^32, as Pillow's own sum is.
// Here the products of 16 bits are added to 32-bit sums one tap at a time.
#include "passes.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#define TURBO_INLINE inline __attribute__((always_inline))

namespace turbo {

namespace {

struct Sums {
    int32x4_t high, low;

    TURBO_INLINE void clear() {
        high = vdupq_n_s32(0);
        low = vdupq_n_s32(1 << (kWeightBits - 1));
    }
    // A tap: `pixels` times the weight whose high part is lane kHigh of `weights`, and whose low part is kLow.
    template <int kHigh, int kLow>
    TURBO_INLINE void add(int16x4_t pixels, int16x8_t weights) {
        high = vmlal_laneq_s16(high, pixels, weights, kHigh);
        low = vmlal_laneq_s16(low, pixels, weights, kLow);
    }
    template <int kHigh, int kLow>
    TURBO_INLINE void add_upper(int16x8_t pixels, int16x8_t weights) {
        high = vmlal_high_laneq_s16(high, pixels, weights, kHigh);
        low = vmlal_high_laneq_s16(low, pixels, weights, kLow);
    }
    // The upper 16 of 32 bits: levels with kFraction bits of fraction.
    TURBO_INLINE int16x4_t levels() const { return vaddhn_s32(vshlq_n_s32(high, Axis::kLowBits), low); }
};
constexpr int kFraction = kWeightBits - 16;

// Eight levels clipped to bytes.
TURBO_INLINE uint8x8_t clipped(Sums a, Sums b) {
    return vqshrun_n_s16(vcombine_s16(a.levels(), b.levels()), kFraction);
}

TURBO_INLINE int16x8_t lower8(uint8x16_t bytes) { return vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))); }
TURBO_INLINE int16x8_t upper8(uint8x16_t bytes) { return vreinterpretq_s16_u16(vmovl_high_u8(bytes)); }

// Four taps of one row.
TURBO_INLINE void add_group(Sums& sums, const std::uint8_t* pixels, int16x8_t weights) {
    const uint8x16_t four = vld1q_u8(pixels);
    const int16x8_t first = lower8(four), second = upper8(four);
    sums.add<0, 2>(vget_low_s16(first), weights);
    sums.add_upper<1, 3>(first, weights);
    sums.add<4, 6>(vget_low_s16(second), weights);
    sums.add_upper<5, 7>(second, weights);
}

// Four pixels without X, and four bytes more.
TURBO_INLINE void store_four(std::uint8_t* out, const Sums (&sums)[4]) {
    static const std::uint8_t places[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 255, 255, 255, 255};
    const uint8x16_t four = vcombine_u8(clipped(sums[0], sums[1]), clipped(sums[2], sums[3]));
    vst1q_u8(out, vqtbl1q_u8(four, vld1q_u8(places)));
}

// Two rows at once, from groups of four taps. kGroups 0: known at run time.
template <int kGroups>
void horizontal_groups(const Axis& axis, const std::uint8_t* const in[2], std::uint8_t* const out[2]) noexcept {
    const int groups = kGroups ? kGroups : axis.pairs() / 2, num = axis.num();
    const std::int32_t* const firsts = axis.vector_firsts();
    const std::int16_t* pairs = axis.vector_pairs();
    std::uint8_t *to_a = out[0], *to_b = out[1];
    for (int i = 0; i < num; i += 4, to_a += 12, to_b += 12) {
        Sums a[4], b[4];
        for (int j = 0; j < 4; ++j) {
            const std::ptrdiff_t at = std::ptrdiff_t(4) * firsts[i + j];
            a[j].clear();
            b[j].clear();
            for (int group = 0; group < groups; ++group, pairs += 8) {
                const int16x8_t weights = vld1q_s16(pairs);
                add_group(a[j], in[0] + at + 16 * std::ptrdiff_t(group), weights);
                add_group(b[j], in[1] + at + 16 * std::ptrdiff_t(group), weights);
            }
        }
        store_four(to_a, a);
        store_four(to_b, b);
    }
}

void horizontal(const Axis& axis, const std::uint8_t* const in[2], std::uint8_t* const out[2]) noexcept {
    switch (axis.pairs()) {
        case 2: return horizontal_groups<1>(axis, in, out);
        case 4: return horizontal_groups<2>(axis, in, out);
        case 6: return horizontal_groups<3>(axis, in, out);
        default: return horizontal_groups<0>(axis, in, out);
    }
}

void pack(const std::uint8_t* in, int num, std::uint8_t* out) noexcept {
    for (int x = 0; x < num; x += 8, in += 32, out += 24) {
        const uint8x8x4_t pixels = vld4_u8(in);
        const uint8x8x3_t kept{{pixels.val[0], pixels.val[1], pixels.val[2]}};
        vst3_u8(out, kept);
    }
}

// A row of 16 bytes; kHigh and kLow as in Sums::add.
template <int kHigh, int kLow>
TURBO_INLINE void add_row(Sums (&sums)[4], uint8x16_t bytes, int16x8_t weights) {
    const int16x8_t left = lower8(bytes), right = upper8(bytes);
    sums[0].add<kHigh, kLow>(vget_low_s16(left), weights);
    sums[1].add_upper<kHigh, kLow>(left, weights);
    sums[2].add<kHigh, kLow>(vget_low_s16(right), weights);
    sums[3].add_upper<kHigh, kLow>(right, weights);
}

// 16 bytes of an output row.
template <int kPairs>
TURBO_INLINE uint8x16_t column(const std::uint8_t* in, std::ptrdiff_t stride, const std::int16_t* from, int pairs) {
    Sums sums[4];
    for (auto& four : sums) four.clear();
    for (int pair = 0; pair < (kPairs ? kPairs : pairs); ++pair, in += 2 * stride, from += 4) {
        const int16x4_t two = vld1_s16(from);
        const int16x8_t weights = vcombine_s16(two, two);
        add_row<0, 2>(sums, vld1q_u8(in), weights);
        add_row<1, 3>(sums, vld1q_u8(in + stride), weights);
    }
    return vcombine_u8(clipped(sums[0], sums[1]), clipped(sums[2], sums[3]));
}

template <int kPairs>
void vertical_pairs(const std::uint8_t* in, std::ptrdiff_t stride, const std::int16_t* weights, int pairs, int size,
                    std::uint8_t* out) noexcept {
    int x = 0;
    for (; x + 16 <= size; x += 16) vst1q_u8(out + x, column<kPairs>(in + x, stride, weights, pairs));
    if (x == size) return;
    std::uint8_t made[16];
    vst1q_u8(made, column<kPairs>(in + x, stride, weights, pairs));
    std::memcpy(out + x, made, std::size_t(size - x));
}

void vertical(const Axis& axis, int i, const std::uint8_t* in, int begin, std::ptrdiff_t stride, int size,
              std::uint8_t* out) noexcept {
    const int pairs = axis.pairs();
    const std::int16_t* const weights = axis.vector_pairs() + std::ptrdiff_t(4) * pairs * i;
    in += stride * (axis.vector_firsts()[i] - begin);
    switch (pairs) {
        case 1: return vertical_pairs<1>(in, stride, weights, pairs, size, out);
        case 2: return vertical_pairs<2>(in, stride, weights, pairs, size, out);
        case 3: return vertical_pairs<3>(in, stride, weights, pairs, size, out);
        default: return vertical_pairs<0>(in, stride, weights, pairs, size, out);
    }
}

}  // namespace

const Passes kNeonPasses = {horizontal, pack, vertical};

}  // namespace turbo
#endif
