#include "lines.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TURBO_AVX2 __attribute__((target("avx2")))
#define TURBO_INLINE inline __attribute__((always_inline, target("avx2")))

namespace turbo {
namespace {

TURBO_INLINE __m256i load(const std::uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
TURBO_INLINE void store(std::uint8_t* to, __m256i value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
}

// 3 * a + b as 16-bit values; unpacklo's order of bytes, which packus undoes.
struct Sums {
    __m256i low, high;
};
TURBO_INLINE Sums three_to_one(__m256i a, __m256i b) {
    const __m256i weights = _mm256_set1_epi16(0x0103);
    return {_mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), weights),
            _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), weights)};
}

// Samples `even` and `odd` in turn.
TURBO_INLINE void store_pairs(std::uint8_t* out, __m256i even, __m256i odd) {
    const __m256i low = _mm256_unpacklo_epi8(even, odd), high = _mm256_unpackhi_epi8(even, odd);
    store(out, _mm256_permute2x128_si256(low, high, 0x20));
    store(out + 32, _mm256_permute2x128_si256(low, high, 0x31));
}

TURBO_INLINE __m256i rounded(Sums sums, int bias) {
    const __m256i add = _mm256_set1_epi16(short(bias));
    return _mm256_packus_epi16(_mm256_srli_epi16(_mm256_add_epi16(sums.low, add), 2),
                               _mm256_srli_epi16(_mm256_add_epi16(sums.high, add), 2));
}

TURBO_AVX2 void fancy_h2v1(const std::uint8_t* in, int count, std::uint8_t* out) {
    for (int i = 0; i < count; i += 32) {
        const __m256i here = load(in + i);
        store_pairs(out + 2 * i, rounded(three_to_one(here, load(in + i - 1)), 1),
                    rounded(three_to_one(here, load(in + i + 1)), 2));
    }
}

// (3 * here + beside + bias) >> 4
TURBO_INLINE __m256i mixed(Sums here, Sums beside, int bias) {
    const __m256i add = _mm256_set1_epi16(short(bias));
    const auto mix = [&](__m256i a, __m256i b) __attribute__((always_inline, target("avx2"))) {
        const __m256i three = _mm256_add_epi16(_mm256_add_epi16(a, a), a);
        return _mm256_srli_epi16(_mm256_add_epi16(three, _mm256_add_epi16(b, add)), 4);
    };
    return _mm256_packus_epi16(mix(here.low, beside.low), mix(here.high, beside.high));
}

TURBO_AVX2 void fancy_h2v2(const std::uint8_t* near, const std::uint8_t* far, int count, std::uint8_t* out) {
    for (int i = 0; i < count; i += 32) {
        const Sums here = three_to_one(load(near + i), load(far + i));
        const Sums before = three_to_one(load(near + i - 1), load(far + i - 1));
        const Sums after = three_to_one(load(near + i + 1), load(far + i + 1));
        store_pairs(out + 2 * i, mixed(here, before, 8), mixed(here, after, 7));
    }
}

TURBO_AVX2 void fancy_h1v2(const std::uint8_t* near, const std::uint8_t* far, int bias, int count,
                           std::uint8_t* out) {
    for (int i = 0; i < count; i += 32) {
        store(out + i, rounded(three_to_one(load(near + i), load(far + i)), bias));
    }
}

// 16 pixels. Each half of r, g, b holds eight bytes, of which the upper eight repeat.
TURBO_INLINE void store_pixels(std::uint8_t* out, __m256i rb, __m256i g, int count) {
    // rb: red of eight pixels then blue of eight, in each half; g: green of eight, twice.
    const __m256i rg = _mm256_unpacklo_epi8(rb, g), bx = _mm256_unpackhi_epi8(rb, g);
    const __m256i low = _mm256_unpacklo_epi16(rg, bx), high = _mm256_unpackhi_epi16(rg, bx);
    store(out, _mm256_permute2x128_si256(low, high, 0x20));
    if (count > 8) store(out + 32, _mm256_permute2x128_si256(low, high, 0x31));
}

// libjpeg-turbo's way (jdcolext-avx2.asm) to jdcolor.c's sums with 16-bit factors: 1.402 = 1 + 0.402,
// 1.772 = 2 - 0.228, 0.71414 = 1 - 0.28586.
TURBO_AVX2 void ycc(const std::uint8_t* y, const std::uint8_t* cb, const std::uint8_t* cr, int count,
                    std::uint8_t* out) {
    const __m256i middle = _mm256_set1_epi16(128), one = _mm256_set1_epi16(1);
    const __m256i red = _mm256_set1_epi16(26345), blue = _mm256_set1_epi16(-14942);
    const __m256i green = _mm256_set1_epi32(int(18734u << 16 | std::uint16_t(-22554)));
    const __m256i half = _mm256_set1_epi32(32768);
    for (int i = 0; i < count; i += 16) {
        const auto words = [&](const std::uint8_t* from) __attribute__((always_inline, target("avx2"))) {
            return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
        };
        const __m256i l = words(y), b = _mm256_sub_epi16(words(cb), middle), r = _mm256_sub_epi16(words(cr), middle);
        const __m256i r2 = _mm256_add_epi16(r, r), b2 = _mm256_add_epi16(b, b);
        const __m256i r_part = _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epi16(r2, red), one), 1);
        const __m256i b_part = _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epi16(b2, blue), one), 1);
        const __m256i R = _mm256_add_epi16(l, _mm256_add_epi16(r, r_part));
        const __m256i B = _mm256_add_epi16(l, _mm256_add_epi16(b2, b_part));
        const __m256i g_low = _mm256_madd_epi16(_mm256_unpacklo_epi16(b, r), green);
        const __m256i g_high = _mm256_madd_epi16(_mm256_unpackhi_epi16(b, r), green);
        const __m256i g_part = _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(g_low, half), 16),
                                                  _mm256_srai_epi32(_mm256_add_epi32(g_high, half), 16));
        const __m256i G = _mm256_add_epi16(l, _mm256_sub_epi16(g_part, r));
        store_pixels(out + 4 * i, _mm256_packus_epi16(R, B), _mm256_packus_epi16(G, G), count - i);
    }
}

TURBO_AVX2 void rgb(const std::uint8_t* r, const std::uint8_t* g, const std::uint8_t* b, int count,
                    std::uint8_t* out) {
    for (int i = 0; i < count; i += 16) {
        const auto spread = [&](const std::uint8_t* from) __attribute__((always_inline, target("avx2"))) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
            return _mm256_permute4x64_epi64(_mm256_castsi128_si256(bytes), 0x50);
        };
        const __m256i rb = _mm256_unpacklo_epi64(spread(r), spread(b));
        store_pixels(out + 4 * i, rb, spread(g), count - i);
    }
}

TURBO_AVX2 void grey(const std::uint8_t* y, int count, std::uint8_t* out) { rgb(y, y, y, count, out); }

}  // namespace

const LineKernels line_kernels_avx2{fancy_h2v1, fancy_h2v2, fancy_h1v2, ycc, rgb, grey};

}  // namespace turbo
#endif
