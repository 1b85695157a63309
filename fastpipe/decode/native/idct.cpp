#include "idct_constants.h"

#include <cstring>

namespace turbo {
namespace {

// pmaddwd: the sum of two products fits into 32 bits with these constants.
std::uint32_t dot(int a, int a_factor, int b, int b_factor) {
    return std::uint32_t(a * a_factor) + std::uint32_t(b * b_factor);
}

// One pass over eight values that are `step` apart. Sums wrap at 16 and at 32 bits, results saturate at 16, as
// paddw, paddd and packssdw do.
void transform(const std::int16_t* in, std::int16_t* out, int step, int shift) {
    const auto x = [&](int i) { return int(in[i * step]); };
    const std::uint32_t t2 = dot(x(2), F_0_541, x(6), F_0_541 - F_1_847);
    const std::uint32_t t3 = dot(x(2), F_0_541 + F_0_765, x(6), F_0_541);
    const std::uint32_t t0 = std::uint32_t(wrap16(x(0) + x(4))) << 13;
    const std::uint32_t t1 = std::uint32_t(wrap16(x(0) + wrap16(-x(4)))) << 13;
    const std::uint32_t even[4] = {t0 + t3, t1 + t2, t1 - t2, t0 - t3};

    const int s3 = wrap16(x(7) + x(3)), s4 = wrap16(x(5) + x(1));
    const std::uint32_t z3 = dot(s3, F_1_175 - F_1_961, s4, F_1_175);
    const std::uint32_t z4 = dot(s3, F_1_175, s4, F_1_175 - F_0_390);
    const std::uint32_t odd[4] = {dot(x(7), -F_0_899, x(1), F_1_501 - F_0_899) + z4,
                                  dot(x(5), -F_2_562, x(3), F_3_072 - F_2_562) + z3,
                                  dot(x(5), F_2_053 - F_2_562, x(3), -F_2_562) + z4,
                                  dot(x(7), F_0_298 - F_0_899, x(1), -F_0_899) + z3};

    const std::uint32_t half = 1u << (shift - 1);
    for (int i = 0; i < 4; ++i) {
        const auto sum = std::int32_t(even[i] + odd[i] + half) >> shift;
        const auto difference = std::int32_t(even[i] - odd[i] + half) >> shift;
        out[i * step] = std::int16_t(saturate(sum, -32768, 32767));
        out[(7 - i) * step] = std::int16_t(saturate(difference, -32768, 32767));
    }
}

void idct_scalar(const std::int16_t* in, const std::uint16_t* quant, int last, std::uint8_t* out,
                 std::ptrdiff_t stride) {
    if (last == 0) {
        for (int y = 0; y < 8; ++y) std::memset(out + y * stride, flat(in, quant), 8);
        return;
    }
    std::int16_t work[64];
    unsigned below = 0;
    for (int i = 0; i < 64; ++i) {
        work[i] = wrap16(int(std::uint32_t(in[i]) * quant[i]));
        if (i >= 8) below |= unsigned(in[i]);
    }
    if (below) {
        for (int x = 0; x < 8; ++x) transform(work + x, work + x, 8, pass1_shift);
    } else {
        // libjpeg-turbo's shortcut where all rows but the first are zero: it wraps where the pass saturates.
        for (int x = 0; x < 8; ++x) work[x] = wrap16(work[x] * 4);
        for (int y = 1; y < 8; ++y) std::memcpy(work + 8 * y, work, 16);
    }
    for (int y = 0; y < 8; ++y) {
        transform(work + 8 * y, work + 8 * y, 1, pass2_shift);
        for (int x = 0; x < 8; ++x) out[y * stride + x] = sample(work[8 * y + x]);
    }
}

void pair_scalar(const IdctTask (&tasks)[2]) {
    for (const auto& task : tasks) idct_scalar(task.coefficients, task.quant, 63, task.out, task.stride);
}

}  // namespace

Idct idct_for(Simd simd) noexcept {
#if defined(__x86_64__)
    if (simd == Simd::avx2) return idct_avx2;
#elif defined(__aarch64__)
    if (simd == Simd::neon) return idct_neon;
#endif
    (void)simd;
    return idct_scalar;
}

IdctPair idct_pair_for(Simd simd) noexcept {
#if defined(__x86_64__)
    if (simd == Simd::avx2) return idct_pair_avx2;
#elif defined(__aarch64__)
    if (simd == Simd::neon) return idct_pair_neon;
#endif
    (void)simd;
    return pair_scalar;
}

}  // namespace turbo
