// Eight rows in eight registers, as in idct_pair.cpp; half a row of 32-bit sums at a time.
#include "idct_constants.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#define TURBO_INLINE inline __attribute__((always_inline))

namespace turbo {
namespace {

// 32-bit sums of the first four and of the last four columns. They wrap, as the scalar ones do.
struct Wide {
    int32x4_t low, high;
};

TURBO_INLINE Wide operator+(Wide a, Wide b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
TURBO_INLINE Wide operator-(Wide a, Wide b) { return {vsubq_s32(a.low, b.low), vsubq_s32(a.high, b.high)}; }

// sum + value * factor
TURBO_INLINE Wide plus(Wide sum, int16x8_t value, int factor) {
    return {vmlal_n_s16(sum.low, vget_low_s16(value), std::int16_t(factor)),
            vmlal_high_n_s16(sum.high, value, std::int16_t(factor))};
}

TURBO_INLINE Wide dot(int16x8_t a, int a_factor, int16x8_t b, int b_factor) {
    const auto factor = std::int16_t(a_factor);
    return plus(Wide{vmull_n_s16(vget_low_s16(a), factor), vmull_high_n_s16(a, factor)}, b, b_factor);
}

// value * 8192, and half of what the descaling divides by.
template <int shift>
TURBO_INLINE Wide scaled(int16x8_t value) {
    const int32x4_t half = vdupq_n_s32(1 << (shift - 1));
    return Wide{vshll_n_s16(vget_low_s16(value), 13), vshll_high_n_s16(value, 13)} + Wide{half, half};
}

// a + b and a - b, descaled. Pass 1 saturates at 16 bits. After pass 2 nothing can: two bits of the fraction are
// left for rows() to drop, and the upper halves of the sums are the values.
template <int shift>
TURBO_INLINE void butterfly(Wide a, Wide b, int16x8_t& sum, int16x8_t& difference) {
    if (shift == pass1_shift) {
        const Wide more = a + b, less = a - b;
        sum = vqshrn_high_n_s32(vqshrn_n_s32(more.low, pass1_shift), more.high, pass1_shift);
        difference = vqshrn_high_n_s32(vqshrn_n_s32(less.low, pass1_shift), less.high, pass1_shift);
    } else {
        sum = vaddhn_high_s32(vaddhn_s32(a.low, b.low), a.high, b.high);
        difference = vsubhn_high_s32(vsubhn_s32(a.low, b.low), a.high, b.high);
    }
}

template <int shift>
TURBO_INLINE void transform(int16x8_t (&r)[8]) {
    const Wide t2 = dot(r[2], F_0_541, r[6], F_0_541 - F_1_847), t3 = dot(r[2], F_0_541 + F_0_765, r[6], F_0_541);
    const Wide t0 = scaled<shift>(vaddq_s16(r[0], r[4])), t1 = scaled<shift>(vsubq_s16(r[0], r[4]));

    const int16x8_t s3 = vaddq_s16(r[7], r[3]), s4 = vaddq_s16(r[5], r[1]);
    const Wide z3 = dot(s3, F_1_175 - F_1_961, s4, F_1_175), z4 = dot(s3, F_1_175, s4, F_1_175 - F_0_390);
    const Wide o0 = plus(plus(z3, r[7], F_0_298 - F_0_899), r[1], -F_0_899);
    const Wide o1 = plus(plus(z4, r[5], F_2_053 - F_2_562), r[3], -F_2_562);
    const Wide o2 = plus(plus(z3, r[5], -F_2_562), r[3], F_3_072 - F_2_562);
    const Wide o3 = plus(plus(z4, r[7], -F_0_899), r[1], F_1_501 - F_0_899);

    butterfly<shift>(t0 + t3, o3, r[0], r[7]);
    butterfly<shift>(t1 + t2, o2, r[1], r[6]);
    butterfly<shift>(t1 - t2, o1, r[2], r[5]);
    butterfly<shift>(t0 - t3, o0, r[3], r[4]);
}

TURBO_INLINE int32x4_t as32(int16x8_t v) { return vreinterpretq_s32_s16(v); }
TURBO_INLINE int64x2_t as64(int32x4_t v) { return vreinterpretq_s64_s32(v); }

TURBO_INLINE void transpose(int16x8_t (&r)[8]) {
    int32x4_t a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = as32(vtrn1q_s16(r[i], r[i + 1]));
        a[i + 1] = as32(vtrn2q_s16(r[i], r[i + 1]));
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = i; j < i + 2; ++j) {
            b[j] = vtrn1q_s32(a[j], a[j + 2]);
            b[j + 2] = vtrn2q_s32(a[j], a[j + 2]);
        }
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = vreinterpretq_s16_s64(vtrn1q_s64(as64(b[i]), as64(b[i + 4])));
        r[i + 4] = vreinterpretq_s16_s64(vtrn2q_s64(as64(b[i]), as64(b[i + 4])));
    }
}

// Two columns of samples, one after the other, from those of pass 2.
TURBO_INLINE uint8x16_t samples(int16x8_t a, int16x8_t b) {
    const int8x16_t both = vqshrn_high_n_s16(vqshrn_n_s16(a, pass2_shift - 16), b, pass2_shift - 16);
    return veorq_u8(vreinterpretq_u8_s8(both), vdupq_n_u8(128));
}

TURBO_INLINE uint32x4_t as_u32(uint8x16_t v) { return vreinterpretq_u32_u8(v); }

// The columns c[0..7] as rows, two in each register.
TURBO_INLINE void rows(const int16x8_t (&c)[8], uint32x4_t (&to)[4]) {
    uint8x16_t p[4];
    for (int i = 0; i < 4; ++i) p[i] = samples(c[2 * i], c[2 * i + 1]);
    const uint8x16_t c02 = vzip1q_u8(p[0], p[1]), c13 = vzip2q_u8(p[0], p[1]);
    const uint8x16_t c46 = vzip1q_u8(p[2], p[3]), c57 = vzip2q_u8(p[2], p[3]);
    const uint32x4_t left_top = as_u32(vzip1q_u8(c02, c13)), left_bottom = as_u32(vzip2q_u8(c02, c13));
    const uint32x4_t right_top = as_u32(vzip1q_u8(c46, c57)), right_bottom = as_u32(vzip2q_u8(c46, c57));
    to[0] = vzip1q_u32(left_top, right_top);
    to[1] = vzip2q_u32(left_top, right_top);
    to[2] = vzip1q_u32(left_bottom, right_bottom);
    to[3] = vzip2q_u32(left_bottom, right_bottom);
}

TURBO_INLINE int16x8_t dequantised(const std::int16_t* in, const std::uint16_t* quant, int row) {
    return vmulq_s16(vld1q_s16(in + 8 * row), vreinterpretq_s16_u16(vld1q_u16(quant + 8 * row)));
}

// Whether rows 1 to 7 are zero: libjpeg-turbo takes a shortcut then, which wraps where the pass saturates.
TURBO_INLINE bool only_first_row(const std::int16_t* in) {
    int16x8_t all = vld1q_s16(in + 8);
    for (int row = 2; row < 8; ++row) all = vorrq_s16(all, vld1q_s16(in + 8 * row));
    return vmaxvq_u32(vreinterpretq_u32_s16(all)) == 0;
}

// The columns after pass 1, of a block whose only row is `row`.
TURBO_INLINE void spread(int16x8_t row, int16x8_t (&c)[8]) {
    c[0] = vdupq_laneq_s16(row, 0);
    c[1] = vdupq_laneq_s16(row, 1);
    c[2] = vdupq_laneq_s16(row, 2);
    c[3] = vdupq_laneq_s16(row, 3);
    c[4] = vdupq_laneq_s16(row, 4);
    c[5] = vdupq_laneq_s16(row, 5);
    c[6] = vdupq_laneq_s16(row, 6);
    c[7] = vdupq_laneq_s16(row, 7);
}

}  // namespace

void idct_neon(const std::int16_t* in, const std::uint16_t* quant, int last, std::uint8_t* out,
               std::ptrdiff_t stride) {
    if (last == 0) {
        const uint8x8_t eight = vdup_n_u8(flat(in, quant));
        for (int y = 0; y < 8; ++y) vst1_u8(out + y * stride, eight);
        return;
    }
    int16x8_t r[8];
    if (only_first_row(in)) {
        spread(vshlq_n_s16(dequantised(in, quant, 0), 2), r);
    } else {
        for (int row = 0; row < 8; ++row) r[row] = dequantised(in, quant, row);
        transform<pass1_shift>(r);
        transpose(r);
    }
    transform<pass2_shift>(r);
    uint32x4_t two[4];
    rows(r, two);
    for (int i = 0; i < 4; ++i, out += 2 * stride) {
        vst1_u8(out, vreinterpret_u8_u32(vget_low_u32(two[i])));
        vst1_u8(out + stride, vreinterpret_u8_u32(vget_high_u32(two[i])));
    }
}

// One row of one block fills a register.
void idct_pair_neon(const IdctTask (&tasks)[2]) {
    for (const auto& task : tasks) idct_neon(task.coefficients, task.quant, 63, task.out, task.stride);
}

}  // namespace turbo
#endif
