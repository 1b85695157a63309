// Two blocks at once: each half of a register holds a row of one of them, so that nothing crosses the halves.
#include "idct_constants.h"

#if defined(__x86_64__)
#define TURBO_AVX2 __attribute__((target("avx2")))
#define TURBO_INLINE inline __attribute__((always_inline, target("avx2")))

namespace turbo {
namespace {

// Sums of 32 bits: of the first four and of the last four columns.
struct Wide {
    __m256i low, high;
};

TURBO_INLINE Wide operator+(Wide a, Wide b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
TURBO_INLINE Wide operator-(Wide a, Wide b) {
    return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
TURBO_INLINE Wide joined(__m256i a, __m256i b) { return {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)}; }

// a * a_factor + b * b_factor of joined a and b.
TURBO_INLINE Wide dot(Wide ab, int a_factor, int b_factor) {
    const auto factors =
        int(std::uint32_t(std::uint16_t(a_factor)) | std::uint32_t(std::uint16_t(b_factor)) << 16);
    const __m256i both = _mm256_set1_epi32(factors);
    return {_mm256_madd_epi16(ab.low, both), _mm256_madd_epi16(ab.high, both)};
}

template <int shift>
TURBO_INLINE __m256i narrow(Wide sums) {
    return _mm256_packs_epi32(_mm256_srai_epi32(sums.low, shift), _mm256_srai_epi32(sums.high, shift));
}

// value * 8192, and half of what the descaling divides by.
template <int shift>
TURBO_INLINE Wide scaled(__m256i value) {
    const Wide top = joined(_mm256_setzero_si256(), value);
    const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    return Wide{_mm256_srai_epi32(top.low, 3), _mm256_srai_epi32(top.high, 3)} + Wide{half, half};
}

template <int shift>
TURBO_INLINE void transform(__m256i (&r)[8]) {
    const Wide r26 = joined(r[2], r[6]);
    const Wide t2 = dot(r26, F_0_541, F_0_541 - F_1_847), t3 = dot(r26, F_0_541 + F_0_765, F_0_541);
    const Wide t0 = scaled<shift>(_mm256_add_epi16(r[0], r[4])), t1 = scaled<shift>(_mm256_sub_epi16(r[0], r[4]));

    const Wide z34 = joined(_mm256_add_epi16(r[7], r[3]), _mm256_add_epi16(r[5], r[1]));
    const Wide z3 = dot(z34, F_1_175 - F_1_961, F_1_175), z4 = dot(z34, F_1_175, F_1_175 - F_0_390);
    const Wide r71 = joined(r[7], r[1]), r53 = joined(r[5], r[3]);
    const Wide o0 = dot(r71, F_0_298 - F_0_899, -F_0_899) + z3, o3 = dot(r71, -F_0_899, F_1_501 - F_0_899) + z4;
    const Wide o1 = dot(r53, F_2_053 - F_2_562, -F_2_562) + z4, o2 = dot(r53, -F_2_562, F_3_072 - F_2_562) + z3;

    const Wide e0 = t0 + t3, e1 = t1 + t2, e2 = t1 - t2, e3 = t0 - t3;
    r[0] = narrow<shift>(e0 + o3);
    r[7] = narrow<shift>(e0 - o3);
    r[1] = narrow<shift>(e1 + o2);
    r[6] = narrow<shift>(e1 - o2);
    r[2] = narrow<shift>(e2 + o1);
    r[5] = narrow<shift>(e2 - o1);
    r[3] = narrow<shift>(e3 + o0);
    r[4] = narrow<shift>(e3 - o0);
}

TURBO_INLINE void transpose(__m256i (&r)[8]) {
    __m256i a[8], b[8];
    for (int i = 0; i < 4; ++i) {
        a[2 * i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        r[2 * i] = _mm256_unpacklo_epi64(b[i], b[i + 4]);
        r[2 * i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 4]);
    }
}

// Columns of 16 bits to rows of samples, two rows in each half.
TURBO_INLINE void to_rows(const __m256i (&c)[8], __m256i (&rows)[4]) {
    const __m256i middle = _mm256_set1_epi8(-128);
    __m256i p[4];
    for (int i = 0; i < 4; ++i) p[i] = _mm256_add_epi8(_mm256_packs_epi16(c[2 * i], c[2 * i + 1]), middle);
    const __m256i c02 = _mm256_unpacklo_epi8(p[0], p[1]), c13 = _mm256_unpackhi_epi8(p[0], p[1]);
    const __m256i c46 = _mm256_unpacklo_epi8(p[2], p[3]), c57 = _mm256_unpackhi_epi8(p[2], p[3]);
    const __m256i left_top = _mm256_unpacklo_epi8(c02, c13), left_bottom = _mm256_unpackhi_epi8(c02, c13);
    const __m256i right_top = _mm256_unpacklo_epi8(c46, c57), right_bottom = _mm256_unpackhi_epi8(c46, c57);
    rows[0] = _mm256_unpacklo_epi32(left_top, right_top);
    rows[1] = _mm256_unpackhi_epi32(left_top, right_top);
    rows[2] = _mm256_unpacklo_epi32(left_bottom, right_bottom);
    rows[3] = _mm256_unpackhi_epi32(left_bottom, right_bottom);
}

TURBO_INLINE __m256i load(const std::int16_t* from) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}

// Two rows of both blocks, dequantised.
TURBO_INLINE void load_rows(const IdctTask (&tasks)[2], int row, __m256i (&r)[8]) {
    const auto* a = tasks[0].coefficients + 8 * row;
    const auto* b = tasks[1].coefficients + 8 * row;
    const auto quant = [&](int i) __attribute__((always_inline, target("avx2"))) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tasks[i].quant + 8 * row));
    };
    const __m256i first = _mm256_mullo_epi16(load(a), quant(0)), second = _mm256_mullo_epi16(load(b), quant(1));
    r[row] = _mm256_permute2x128_si256(first, second, 0x20);
    r[row + 1] = _mm256_permute2x128_si256(first, second, 0x31);
}

TURBO_INLINE void store(const IdctTask& task, int row, __m128i rows) {
    auto* out = task.out + row * task.stride;
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), rows);
    _mm_storeh_pd(reinterpret_cast<double*>(out + task.stride), _mm_castsi128_pd(rows));
}

}  // namespace

TURBO_AVX2 void idct_pair_avx2(const IdctTask (&tasks)[2]) {
    if (only_first_row_avx2(tasks[0].coefficients) || only_first_row_avx2(tasks[1].coefficients)) {
        for (const auto& task : tasks) idct_avx2(task.coefficients, task.quant, 63, task.out, task.stride);
        return;
    }
    __m256i r[8], rows[4];
    for (int row = 0; row < 8; row += 2) load_rows(tasks, row, r);
    transform<pass1_shift>(r);
    transpose(r);
    transform<pass2_shift>(r);
    to_rows(r, rows);
    for (int i = 0; i < 4; ++i) {
        store(tasks[0], 2 * i, _mm256_castsi256_si128(rows[i]));
        store(tasks[1], 2 * i, _mm256_extracti128_si256(rows[i], 1));
    }
}

}  // namespace turbo
#endif
