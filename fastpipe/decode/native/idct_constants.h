// What the scalar and the vector IDCT share.
#pragma once
#include "idct.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace turbo {

// jidctint.c's constants, 13 fractional bits.
constexpr int F_0_298 = 2446, F_0_390 = 3196, F_0_541 = 4433, F_0_765 = 6270, F_0_899 = 7373, F_1_175 = 9633,
              F_1_501 = 12299, F_1_847 = 15137, F_1_961 = 16069, F_2_053 = 16819, F_2_562 = 20995, F_3_072 = 25172;
constexpr int pass1_shift = 11, pass2_shift = 18;

inline std::int16_t wrap16(int value) { return std::int16_t(std::uint16_t(value)); }

inline int saturate(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

inline std::uint8_t sample(int value) { return std::uint8_t(saturate(value, -128, 127) + 128); }

// Only the mean: both passes come to (4 * dc + 16) >> 5, where 4 * dc wraps at 16 bits.
inline std::uint8_t flat(const std::int16_t* in, const std::uint16_t* quant) {
    return sample((wrap16(int(std::uint32_t(in[0]) * quant[0] * 4)) + 16) >> 5);
}

#if defined(__x86_64__)
void idct_avx2(const std::int16_t* in, const std::uint16_t* quant, int last, std::uint8_t* out,
               std::ptrdiff_t stride);
void idct_pair_avx2(const IdctTask (&tasks)[2]);

// Whether rows 1 to 7 are zero: libjpeg-turbo takes a shortcut then, which wraps where the pass saturates.
__attribute__((target("avx2"))) inline bool only_first_row_avx2(const std::int16_t* in) {
    const auto* rows = reinterpret_cast<const __m256i*>(in);
    const __m256i some = _mm256_or_si256(_mm256_load_si256(rows + 1), _mm256_load_si256(rows + 2));
    const __m256i six = _mm256_or_si256(some, _mm256_load_si256(rows + 3));
    const __m256i second = _mm256_zextsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(in + 8)));
    const __m256i all = _mm256_or_si256(six, second);
    return _mm256_testz_si256(all, all);
}
#elif defined(__aarch64__)
void idct_neon(const std::int16_t* in, const std::uint16_t* quant, int last, std::uint8_t* out,
               std::ptrdiff_t stride);
void idct_pair_neon(const IdctTask (&tasks)[2]);
#endif

}  // namespace turbo
