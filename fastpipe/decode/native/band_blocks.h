// Blocks of progressive scans, to be inlined into functions that are compiled for an instruction set.
#pragma once
#include <algorithm>

#include "bands.h"

namespace turbo {

#define TURBO_BAND inline __attribute__((always_inline))

// From `first` to `last`, both from 0 to 63.
TURBO_BAND Places places(int first, int last) {
    return (~Places(0) >> first) & (~Places(0) << (63 - last));
}

TURBO_BAND int zeros_of(std::uint32_t found) { return int(found >> entry::places & entry::places_mask) - 1; }

// The number of blocks that symbol EOBn ends, n <= 14.
TURBO_BAND unsigned ended_blocks(Bits& bits, int n) { return n ? (1u << n) + bits.take(n) : 1; }

struct Coefficient {
    int zeros, size, value;  // size 0: an end of band, or 16 zeros
    bool wrong;
};

// A look-up that gave no value: end of band, 16 zeros, or a code that is longer with its bits.
TURBO_BAND Coefficient rare_coefficient(std::uint32_t found, Bits& bits, const Huffman& table) {
    bits.fill();
    if (!(found & entry::long_code)) {
        bits.drop(int(found & entry::length));
        return {zeros_of(found), 0, 0, false};
    }
    const auto code = table.symbol(bits.peek(16));
    const int size = code.symbol & 15;
    bits.drop(code.length);
    // 8-bit files have no larger coefficient; with it no value below could overflow.
    if (code.length == 0 || size > 10) return {0, 0, 0, true};
    return {code.symbol >> 4, size, size ? extend(bits.take(size), size) : 0, false};
}

// One block of a first scan in which the band has not ended before. `run`: how many blocks an end of band covers,
// with this one.
template <bool keeps>
TURBO_BAND bool first_block(Bits& bits, const Band& band, unsigned& run, Places& map, std::int16_t* block) {
    const auto* look = band.table->coefficients;
    int k = band.first;
    for (;;) {
        bits.fill();
        for (int n = 0; n < 56 / look_bits; ++n) {
            const auto found = look[bits.peek(look_bits)];
            Coefficient next{zeros_of(found), 1, std::int32_t(found) >> entry::value, false};
            const bool rare = found & entry::special;
            if (__builtin_expect(rare, 0)) {
                next = rare_coefficient(found, bits, *band.table);
                if (next.wrong) return false;
                if (next.size == 0 && next.zeros < 15) {
                    run = ended_blocks(bits, next.zeros);
                    return true;
                }
            } else {
                bits.drop(int(found & entry::length));
            }
            k += next.zeros;
            if (__builtin_expect(k > band.last, 0)) return false;
            if (next.size) {
                map |= top_place >> k;
                if (keeps) block[k] = std::int16_t(next.value * (1 << band.low));
            }
            // An encoder writes 16 zeros only before a coefficient.
            if (++k > band.last) return next.size != 0;
            if (rare) break;
        }
    }
}

template <bool keeps>
TURBO_BAND bool first_blocks(BandStream& stream, const Band& band, int count, Places* nonzero, std::int16_t* values) {
    Bits bits = stream.bits;
    unsigned run = stream.run;
    for (int at = 0;; ++at) {
        const auto ended = std::min(run, unsigned(count - at));
        run -= ended;
        at += int(ended);
        if (at == count) break;
        Places map = 0;
        unsigned covered = 0;
        auto* block = keeps ? values + 64 * std::ptrdiff_t(at) : nullptr;
        if (!first_block<keeps>(bits, band, covered, map, block) || !bits.ends_within(stream.end)) return false;
        nonzero[at] |= map;
        if (covered) run = covered - 1;
    }
    stream.bits = bits;
    stream.run = run;
    return true;
}

}  // namespace turbo
