// A weight is high * 2^11 + low, so that pmaddwd multiplies two pixels by two weights in 16 bits. The sums of both
// parts are kept modulo 2^32, as Pillow's own sum is: their combination has the same bits whatever the order.
#include "passes.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define TURBO_AVX2 __attribute__((target("avx2")))
#define TURBO_INLINE inline __attribute__((always_inline, target("avx2")))

namespace turbo {

namespace {

TURBO_INLINE __m128i load16(const std::uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
TURBO_INLINE void store16(std::uint8_t* to, __m128i value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value);
}
TURBO_INLINE __m256i load32(const std::uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// Two 16-bit weights, in every 32-bit lane.
TURBO_INLINE __m256i two_weights(const std::int16_t* from) {
    std::int32_t both;
    std::memcpy(&both, from, sizeof(both));
    return _mm256_set1_epi32(both);
}

// Sums of the high and the low parts of the weights.
struct Sums {
    __m256i high, low;

    TURBO_INLINE void clear() {
        high = _mm256_setzero_si256();
        low = _mm256_set1_epi32(1 << (kWeightBits - 1));
    }
    // `pixels`: the two pixels of a pair side by side, in 16 bits.
    TURBO_INLINE void add(__m256i pixels, __m256i highs, __m256i lows) {
        high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, highs));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, lows));
    }
    // Levels before they are clipped: -512 to 511.
    TURBO_INLINE __m256i levels() const {
        const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, Axis::kLowBits), low);
        return _mm256_srai_epi32(sum, kWeightBits);
    }
};

// In each half the four levels of four values in turn, clipped to bytes.
TURBO_INLINE __m256i clipped(__m256i a, __m256i b, __m256i c, __m256i d) {
    return _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}

// One output pixel of two rows, one in each half, from `groups` of four taps. kGroups 0: known at run time.
template <int kGroups>
TURBO_INLINE __m256i pixel(const std::uint8_t* a, const std::uint8_t* b, const std::int16_t* pairs, int groups) {
    const __m256i first = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1));
    const __m256i second = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1));
    Sums sums;
    sums.clear();
    for (int group = 0; group < (kGroups ? kGroups : groups); ++group, pairs += 8) {
        const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(a + 16 * std::ptrdiff_t(group))),
                                                     load16(b + 16 * std::ptrdiff_t(group)), 1);
        sums.add(_mm256_shuffle_epi8(both, first), two_weights(pairs), two_weights(pairs + 2));
        sums.add(_mm256_shuffle_epi8(both, second), two_weights(pairs + 4), two_weights(pairs + 6));
    }
    return sums.levels();
}

template <int kGroups>
TURBO_AVX2 void horizontal_groups(const Axis& axis, const std::uint8_t* const in[2],
                                  std::uint8_t* const out[2]) noexcept {
    const __m256i drop = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    const int groups = axis.pairs() / 2, num = axis.num();
    const std::int32_t* const firsts = axis.vector_firsts();
    const std::int16_t* pairs = axis.vector_pairs();
    const std::uint8_t *const a = in[0], *const b = in[1];
    std::uint8_t *to_a = out[0], *to_b = out[1];
    const std::ptrdiff_t step = 8 * std::ptrdiff_t(kGroups ? kGroups : groups);
    for (int i = 0; i < num; i += 4, to_a += 12, to_b += 12) {
        __m256i levels[4];
        for (int j = 0; j < 4; ++j, pairs += step) {
            const std::ptrdiff_t at = std::ptrdiff_t(4) * firsts[i + j];
            levels[j] = pixel<kGroups>(a + at, b + at, pairs, groups);
        }
        const __m256i four = clipped(levels[0], levels[1], levels[2], levels[3]);
        const __m256i packed = _mm256_shuffle_epi8(four, drop);
        store16(to_a, _mm256_castsi256_si128(packed));
        store16(to_b, _mm256_extracti128_si256(packed, 1));
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

TURBO_AVX2 void pack(const std::uint8_t* in, int num, std::uint8_t* out) noexcept {
    const __m128i drop = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    for (int x = 0; x < num; x += 4, in += 16, out += 12) store16(out, _mm_shuffle_epi8(load16(in), drop));
}

// 32 bytes of an output row.
template <int kPairs>
TURBO_INLINE __m256i column(const std::uint8_t* in, std::ptrdiff_t stride, const std::int16_t* weights, int pairs) {
    const __m256i zero = _mm256_setzero_si256();
    Sums sums[4];
    for (auto& four : sums) four.clear();
    for (int pair = 0; pair < (kPairs ? kPairs : pairs); ++pair, in += 2 * stride, weights += 4) {
        const __m256i upper = load32(in), lower = load32(in + stride);
        const __m256i highs = two_weights(weights), lows = two_weights(weights + 2);
        const __m256i left = _mm256_unpacklo_epi8(upper, lower), right = _mm256_unpackhi_epi8(upper, lower);
        sums[0].add(_mm256_unpacklo_epi8(left, zero), highs, lows);
        sums[1].add(_mm256_unpackhi_epi8(left, zero), highs, lows);
        sums[2].add(_mm256_unpacklo_epi8(right, zero), highs, lows);
        sums[3].add(_mm256_unpackhi_epi8(right, zero), highs, lows);
    }
    return clipped(sums[0].levels(), sums[1].levels(), sums[2].levels(), sums[3].levels());
}

template <int kPairs>
TURBO_AVX2 void vertical_pairs(const std::uint8_t* in, std::ptrdiff_t stride, const std::int16_t* weights, int pairs,
                               int size, std::uint8_t* out) noexcept {
    alignas(32) std::uint8_t made[32];
    int x = 0;
    for (; x + 32 <= size; x += 32) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), column<kPairs>(in + x, stride, weights, pairs));
    }
    if (x == size) return;
    _mm256_store_si256(reinterpret_cast<__m256i*>(made), column<kPairs>(in + x, stride, weights, pairs));
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

const Passes kAvx2Passes = {horizontal, pack, vertical};

}  // namespace turbo
#endif
