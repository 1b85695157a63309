#include "lines.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define TURBO_INLINE inline __attribute__((always_inline))

namespace turbo {
namespace {

// 16 values of 16 bits.
struct Sums {
    uint16x8_t low, high;
};

TURBO_INLINE Sums three_to_one(uint8x16_t a, uint8x16_t b) {
    const uint8x16_t three = vdupq_n_u8(3);
    return {vaddw_u8(vmull_u8(vget_low_u8(a), vget_low_u8(three)), vget_low_u8(b)),
            vaddw_high_u8(vmull_high_u8(a, three), b)};
}

// (sums + bias) >> shift; the narrowing rounds by half of 1 << shift, so that `bias` is what is more or less.
template <int shift, int bias>
TURBO_INLINE uint8x16_t narrow(Sums sums) {
    if (bias == 1 << (shift - 1)) return vrshrn_high_n_u16(vrshrn_n_u16(sums.low, shift), sums.high, shift);
    const uint16x8_t add = vdupq_n_u16(bias);
    return vshrn_high_n_u16(vshrn_n_u16(vaddq_u16(sums.low, add), shift), vaddq_u16(sums.high, add), shift);
}

void fancy_h2v1(const std::uint8_t* in, int count, std::uint8_t* out) {
    for (int i = 0; i < count; i += 16) {
        const uint8x16_t here = vld1q_u8(in + i);
        const uint8x16_t even = narrow<2, 1>(three_to_one(here, vld1q_u8(in + i - 1)));
        const uint8x16_t odd = narrow<2, 2>(three_to_one(here, vld1q_u8(in + i + 1)));
        const uint8x16x2_t both{{even, odd}};
        vst2q_u8(out + 2 * i, both);
    }
}

TURBO_INLINE Sums three_to_one(Sums a, Sums b) {
    return {vmlaq_n_u16(b.low, a.low, 3), vmlaq_n_u16(b.high, a.high, 3)};
}

void fancy_h2v2(const std::uint8_t* near, const std::uint8_t* far, int count, std::uint8_t* out) {
    const auto sums = [&](int i) { return three_to_one(vld1q_u8(near + i), vld1q_u8(far + i)); };
    for (int i = 0; i < count; i += 16) {
        const Sums here = sums(i);
        const uint8x16_t even = narrow<4, 8>(three_to_one(here, sums(i - 1)));
        const uint8x16_t odd = narrow<4, 7>(three_to_one(here, sums(i + 1)));
        const uint8x16x2_t both{{even, odd}};
        vst2q_u8(out + 2 * i, both);
    }
}

template <int bias>
TURBO_INLINE void fancy_v(const std::uint8_t* near, const std::uint8_t* far, int count, std::uint8_t* out) {
    for (int i = 0; i < count; i += 16) {
        const Sums sums = three_to_one(vld1q_u8(near + i), vld1q_u8(far + i));
        const uint8x16_t mixed = narrow<2, bias>(sums);
        vst1q_u8(out + i, mixed);
    }
}

void fancy_h1v2(const std::uint8_t* near, const std::uint8_t* far, int bias, int count, std::uint8_t* out) {
    return bias == 1 ? fancy_v<1>(near, far, count, out) : fancy_v<2>(near, far, count, out);
}

// Eight, so that no more than 28 bytes behind the last pixel are overwritten.
TURBO_INLINE void store_pixels(std::uint8_t* out, uint8x8_t r, uint8x8_t g, uint8x8_t b) {
    const uint8x8x4_t pixels{{r, g, b, vdup_n_u8(0)}};
    vst4_u8(out, pixels);
}

// (value * factor * 2^-15 + 1) >> 1, without loss: jdcolor.c's product, of which the whole multiples are taken out.
TURBO_INLINE int16x8_t fraction(int16x8_t value, std::int16_t factor) {
    return vrshrq_n_s16(vqdmulhq_n_s16(value, factor), 1);
}

// As in lines_avx2.cpp: 1.402 = 1 + 0.402, 1.772 = 2 - 0.228, 0.71414 = 1 - 0.28586.
void ycc(const std::uint8_t* y, const std::uint8_t* cb, const std::uint8_t* cr, int count, std::uint8_t* out) {
    const auto centred = [](const std::uint8_t* from) {
        return vreinterpretq_s16_u16(vsubl_u8(vld1_u8(from), vdup_n_u8(128)));
    };
    for (int i = 0; i < count; i += 8) {
        const int16x8_t l = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(y + i)));
        const int16x8_t b = centred(cb + i), r = centred(cr + i);
        const int16x8_t red = vaddq_s16(vaddq_s16(l, r), fraction(r, 26345));
        const int16x8_t blue = vaddq_s16(vaddq_s16(l, vaddq_s16(b, b)), fraction(b, -14942));
        const int32x4_t low = vmlal_n_s16(vmull_n_s16(vget_low_s16(b), -22554), vget_low_s16(r), 18734);
        const int32x4_t high = vmlal_high_n_s16(vmull_high_n_s16(b, -22554), r, 18734);
        const int16x8_t mixed = vrshrn_high_n_s32(vrshrn_n_s32(low, 16), high, 16);
        const int16x8_t green = vaddq_s16(vsubq_s16(l, r), mixed);
        store_pixels(out + 4 * i, vqmovun_s16(red), vqmovun_s16(green), vqmovun_s16(blue));
    }
}

void rgb(const std::uint8_t* r, const std::uint8_t* g, const std::uint8_t* b, int count, std::uint8_t* out) {
    for (int i = 0; i < count; i += 8) {
        store_pixels(out + 4 * i, vld1_u8(r + i), vld1_u8(g + i), vld1_u8(b + i));
    }
}

void grey(const std::uint8_t* y, int count, std::uint8_t* out) { rgb(y, y, y, count, out); }

}  // namespace

const LineKernels line_kernels_neon{fancy_h2v1, fancy_h2v2, fancy_h1v2, ycc, rgb, grey};

}  // namespace turbo
#endif
