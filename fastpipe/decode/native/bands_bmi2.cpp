// Scans that refine are most of the work on a progressive file: 70 % where coefficients are corrected one by one,
// because each loop ends where no processor expects it. Here a symbol is followed without a loop: BMI2's PDEP finds
// the n-th zero, and hands correction bits to the coefficients that wait for them.
#include "band_blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TURBO_BMI2 __attribute__((target("avx2,bmi,bmi2,popcnt")))

namespace turbo {
namespace {

// The next bits, one for each of `waiting`, at the place for which they are.
TURBO_BMI2 TURBO_BAND Places take_for(Bits& bits, Places waiting) {
    int count = int(_mm_popcnt_u64(waiting));
    Places ones = 0;
    if (__builtin_expect(count > 32, 0)) {
        // More than a fill may give: those of the last 32 places that wait come second.
        const Places later = _pdep_u64(0xFFFFFFFF, waiting), sooner = waiting & ~later;
        bits.fill();
        ones = _pdep_u64(bits.take(count - 32), sooner);
        waiting = later;
        count = 32;
        bits.fill();
    }
    // Two shifts: the count may be 0, and no shift may have 64.
    ones |= _pdep_u64(bits.window >> 1 >> (63 - count), waiting);
    bits.drop(count);
    return ones;
}

// Length and symbol, as Huffman::symbols has those of short codes; 0: none. Out of line, to leave registers.
__attribute__((noinline)) unsigned long_symbol(const Huffman& table, unsigned window) {
    const auto found = table.symbol(window);
    return unsigned(found.length << 8 | found.symbol);
}

// What one block of a scan that refines changes.
struct Changes {
    Places corrected, fresh, positive;
};

TURBO_BMI2 TURBO_BAND bool refine_block(Bits& bits, const Band& band, unsigned& run, Places old, Changes& made) {
    Places left = places(band.first, band.last);
    made = {0, 0, 0};
    while (run == 0 && left) {
        bits.fill();
        unsigned code = band.table->symbols[bits.peek(look_bits)];
        if (__builtin_expect(code == 0, 0)) code = long_symbol(*band.table, bits.peek(16));
        const int size = int(code) & 15, zeros = int(code >> 4) & 15;
        if (__builtin_expect(code == 0 || size > 1, 0)) return false;
        bits.drop(int(code >> 8));
        if (size == 0 && zeros < 15) {
            run = ended_blocks(bits, zeros);
            break;
        }
        const Places sign = Places(bits.window >> 63 & unsigned(size));
        bits.drop(size);
        const Places free = left & ~old;
        const int skipped = int(_mm_popcnt_u64(free)) - 1 - zeros;
        if (__builtin_expect(skipped < 0, 0)) return false;
        const Places place = _pdep_u64(Places(1) << skipped, free), after = place - 1;
        // At least 39 bits are left.
        made.corrected |= take_for(bits, left & old & ~after);
        made.fresh |= place & -Places(unsigned(size));
        made.positive |= place & -sign;
        left &= after;
    }
    if (run == 0) return true;
    --run;
    bits.fill();
    made.corrected |= take_for(bits, left & old);
    return true;
}

// All bits of a lane of 16 bits where the place is in the set.
TURBO_BMI2 TURBO_BAND __m256i lanes(Places sixteen) {
    const __m256i each = _mm256_setr_epi16(-0x8000, 0x4000, 0x2000, 0x1000, 0x800, 0x400, 0x200, 0x100, 0x80, 0x40,
                                           0x20, 0x10, 8, 4, 2, 1);
    return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(short(sixteen)), each), each);
}

TURBO_BMI2 TURBO_BAND void apply(const Changes& made, std::int16_t* values, int bit) {
    const __m256i bits = _mm256_set1_epi16(short(bit));
    for (int part = 0; part < 4; ++part, values += 16) {
        const int shift = 48 - 16 * part;
        if (((made.corrected | made.fresh) >> shift & 0xFFFF) == 0) continue;
        auto* at = reinterpret_cast<__m256i*>(values);
        const __m256i old = _mm256_load_si256(at), negative = lanes(~made.positive >> shift);
        const __m256i larger = _mm256_and_si256(_mm256_sign_epi16(bits, old), lanes(made.corrected >> shift));
        const __m256i fresh = _mm256_sub_epi16(_mm256_xor_si256(bits, negative), negative);
        const __m256i new_ones = _mm256_and_si256(fresh, lanes(made.fresh >> shift));
        _mm256_store_si256(at, _mm256_add_epi16(_mm256_add_epi16(old, larger), new_ones));
    }
}

TURBO_BMI2 bool refine(BandStream& stream, const Band& band, int count, Places* nonzero, std::int16_t* values) {
    Bits bits = stream.bits;
    unsigned run = stream.run;
    for (int at = 0; at < count; ++at) {
        Changes made;
        if (!refine_block(bits, band, run, nonzero[at], made) || !bits.ends_within(stream.end)) return false;
        nonzero[at] |= made.fresh;
        if (values) apply(made, values + 64 * std::ptrdiff_t(at), 1 << band.low);
    }
    stream.bits = bits;
    stream.run = run;
    return true;
}

TURBO_BMI2 bool first(BandStream& stream, const Band& band, int count, Places* nonzero, std::int16_t* values) {
    return values ? first_blocks<true>(stream, band, count, nonzero, values)
                  : first_blocks<false>(stream, band, count, nonzero, values);
}

}  // namespace

BandReaders band_readers_bmi2() noexcept { return {first, refine}; }

}  // namespace turbo

#endif
