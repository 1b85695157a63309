#include "idct_constants.h"

#if defined(__x86_64__)
#include <cstring>

#define TURBO_AVX2 __attribute__((target("avx2")))
#define TURBO_INLINE inline __attribute__((always_inline, target("avx2")))

namespace turbo {
namespace {

// Pairs of 16-bit factors for pmaddwd, one pair in the lower half and one in the upper.
TURBO_INLINE __m256i pairs(int a, int b, int c, int d) {
    const int low = int(std::uint32_t(std::uint16_t(a)) | std::uint32_t(std::uint16_t(b)) << 16);
    const int high = int(std::uint32_t(std::uint16_t(c)) | std::uint32_t(std::uint16_t(d)) << 16);
    return _mm256_setr_epi32(low, low, low, low, high, high, high, high);
}

template <int shift>
TURBO_INLINE __m256i descale(__m256i low, __m256i high) {
    const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(low, half), shift),
                              _mm256_srai_epi32(_mm256_add_epi32(high, half), shift));
}

TURBO_INLINE __m256i swap(__m256i v) { return _mm256_permute2x128_si256(v, v, 0x01); }

// Rows of eight 16-bit values, two in a register: a is (0, 4), b is (3, 1), c is (2, 6), d is (7, 5). Gives
// (0, 1), (3, 2), (4, 5), (7, 6). The arrangement is that of jidctint-avx2.asm.
template <int shift>
TURBO_INLINE void transform(__m256i& a, __m256i& b, __m256i& c, __m256i& d) {
    const __m256i c2 = swap(c);
    const __m256i even = pairs(F_0_541 + F_0_765, F_0_541, F_0_541 - F_1_847, F_0_541);
    const __m256i t32_low = _mm256_madd_epi16(_mm256_unpacklo_epi16(c, c2), even);
    const __m256i t32_high = _mm256_madd_epi16(_mm256_unpackhi_epi16(c, c2), even);

    const __m256i signs = _mm256_setr_epi32(0x10001, 0x10001, 0x10001, 0x10001, -1, -1, -1, -1);
    const __m256i sums = _mm256_add_epi16(swap(a), _mm256_sign_epi16(a, signs));  // 0 + 4, 0 - 4
    const __m256i zero = _mm256_setzero_si256();
    const __m256i t01_low = _mm256_srai_epi32(_mm256_unpacklo_epi16(zero, sums), 3);
    const __m256i t01_high = _mm256_srai_epi32(_mm256_unpackhi_epi16(zero, sums), 3);

    const __m256i z34 = _mm256_add_epi16(d, b), z43 = swap(z34);
    const __m256i z = pairs(F_1_175 - F_1_961, F_1_175, F_1_175 - F_0_390, F_1_175);
    const __m256i z_low = _mm256_madd_epi16(_mm256_unpacklo_epi16(z34, z43), z);
    const __m256i z_high = _mm256_madd_epi16(_mm256_unpackhi_epi16(z34, z43), z);

    const __m256i b2 = swap(b);
    const __m256i low = _mm256_unpacklo_epi16(d, b2), high = _mm256_unpackhi_epi16(d, b2);
    const __m256i inner = pairs(F_0_298 - F_0_899, -F_0_899, F_2_053 - F_2_562, -F_2_562);
    const __m256i outer = pairs(-F_0_899, F_1_501 - F_0_899, -F_2_562, F_3_072 - F_2_562);
    const __m256i o01_low = _mm256_add_epi32(_mm256_madd_epi16(low, inner), z_low);
    const __m256i o01_high = _mm256_add_epi32(_mm256_madd_epi16(high, inner), z_high);
    const __m256i o32_low = _mm256_add_epi32(_mm256_madd_epi16(low, outer), swap(z_low));
    const __m256i o32_high = _mm256_add_epi32(_mm256_madd_epi16(high, outer), swap(z_high));

    const __m256i e01_low = _mm256_add_epi32(t01_low, t32_low), e01_high = _mm256_add_epi32(t01_high, t32_high);
    const __m256i e32_low = _mm256_sub_epi32(t01_low, t32_low), e32_high = _mm256_sub_epi32(t01_high, t32_high);
    a = descale<shift>(_mm256_add_epi32(e01_low, o32_low), _mm256_add_epi32(e01_high, o32_high));
    d = descale<shift>(_mm256_sub_epi32(e01_low, o32_low), _mm256_sub_epi32(e01_high, o32_high));
    b = descale<shift>(_mm256_add_epi32(e32_low, o01_low), _mm256_add_epi32(e32_high, o01_high));
    c = descale<shift>(_mm256_sub_epi32(e32_low, o01_low), _mm256_sub_epi32(e32_high, o01_high));
}

// (0, 1), (3, 2), (4, 5), (7, 6) -> columns (0, 4), (1, 5), (2, 6), (3, 7).
TURBO_INLINE void transpose(__m256i& a, __m256i& b, __m256i& c, __m256i& d) {
    // Quarters: 0 and 1 of the first four columns, then of the last four; 2 and 3; 4 and 5; 6 and 7.
    const __m256i r01 = _mm256_permute4x64_epi64(a, 0xD8), r23 = _mm256_permute4x64_epi64(b, 0x72);
    const __m256i r45 = _mm256_permute4x64_epi64(c, 0xD8), r67 = _mm256_permute4x64_epi64(d, 0x72);
    const __m256i r02 = _mm256_unpacklo_epi16(r01, r23), r13 = _mm256_unpackhi_epi16(r01, r23);
    const __m256i r46 = _mm256_unpacklo_epi16(r45, r67), r57 = _mm256_unpackhi_epi16(r45, r67);
    const __m256i low01 = _mm256_unpacklo_epi16(r02, r13), low23 = _mm256_unpackhi_epi16(r02, r13);
    const __m256i high01 = _mm256_unpacklo_epi16(r46, r57), high23 = _mm256_unpackhi_epi16(r46, r57);
    a = _mm256_unpacklo_epi64(low01, high01);
    b = _mm256_unpackhi_epi64(low01, high01);
    c = _mm256_unpacklo_epi64(low23, high23);
    d = _mm256_unpackhi_epi64(low23, high23);
}

TURBO_INLINE __m256i dequantised(const std::int16_t* in, const std::uint16_t* quant, int row) {
    return _mm256_mullo_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(in + 8 * row)),
                              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quant + 8 * row)));
}

TURBO_INLINE void store(std::uint8_t* out, std::ptrdiff_t stride, __m128i rows) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), rows);
    _mm_storeh_pd(reinterpret_cast<double*>(out + stride), _mm_castsi128_pd(rows));
}

}  // namespace

TURBO_AVX2 void idct_avx2(const std::int16_t* in, const std::uint16_t* quant, int last, std::uint8_t* out,
                          std::ptrdiff_t stride) {
    if (last == 0) {
        const std::uint64_t eight = flat(in, quant) * 0x0101010101010101u;
        for (int y = 0; y < 8; ++y) std::memcpy(out + y * stride, &eight, 8);
        return;
    }
    __m256i a, b, c, d;
    if (only_first_row_avx2(in)) {
        const __m128i row = _mm_slli_epi16(_mm256_castsi256_si128(dequantised(in, quant, 0)), 2);
        const __m256i two = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_unpacklo_epi16(row, row)), _mm_unpackhi_epi16(row, row), 1);
        a = _mm256_shuffle_epi32(two, 0x00);
        b = _mm256_shuffle_epi32(two, 0x55);
        c = _mm256_shuffle_epi32(two, 0xAA);
        d = _mm256_shuffle_epi32(two, 0xFF);
    } else {
        const __m256i r01 = dequantised(in, quant, 0), r23 = dequantised(in, quant, 2);
        const __m256i r45 = dequantised(in, quant, 4), r67 = dequantised(in, quant, 6);
        a = _mm256_permute2x128_si256(r01, r45, 0x20);
        b = _mm256_permute2x128_si256(r23, r01, 0x31);
        c = _mm256_permute2x128_si256(r23, r67, 0x20);
        d = _mm256_permute2x128_si256(r67, r45, 0x31);
        transform<pass1_shift>(a, b, c, d);
        transpose(a, b, c, d);
    }
    // Columns (0, 4), (1, 5), (2, 6), (3, 7).
    __m256i b2 = _mm256_permute2x128_si256(d, b, 0x20), d2 = _mm256_permute2x128_si256(d, b, 0x31);
    transform<pass2_shift>(a, b2, c, d2);
    transpose(a, b2, c, d2);
    const __m256i middle = _mm256_set1_epi8(-128);
    const __m256i r0145 = _mm256_add_epi8(_mm256_packs_epi16(a, b2), middle);
    const __m256i r2367 = _mm256_add_epi8(_mm256_packs_epi16(c, d2), middle);
    store(out, stride, _mm256_castsi256_si128(r0145));
    store(out + 2 * stride, stride, _mm256_castsi256_si128(r2367));
    store(out + 4 * stride, stride, _mm256_extracti128_si256(r0145, 1));
    store(out + 6 * stride, stride, _mm256_extracti128_si256(r2367, 1));
}

}  // namespace turbo
#endif
