// One block of baseline data: its coefficients, or only its length and its mean. Inlined into functions that are
// compiled for an instruction set (BMI2's shifts save an instruction in each symbol).
#pragma once
#include "bits.h"
#include "huffman.h"

namespace turbo {

#define TURBO_ALWAYS inline __attribute__((always_inline))

// A code that is longer than the look-up, or whose extra bits are. `wrong` is set where there is no such code.
struct LongSymbol {
    int run, size, value;
};
inline __attribute__((noinline)) LongSymbol long_symbol(Bits& bits, const Huffman& table, unsigned& wrong) {
    bits.fill();
    const Symbol found = table.symbol(bits.peek(16));
    wrong |= unsigned(found.length == 0);
    bits.drop(found.length);
    const int size = found.symbol & 15;
    return {found.symbol >> 4, size, size ? extend(bits.take(size), size) : 0};
}

// The difference to the mean of the block before. At least 45 bits are left in the window.
TURBO_ALWAYS int difference(Bits& bits, const Huffman& dc, unsigned& wrong) {
    bits.fill();
    const std::uint32_t e = dc.coefficients[bits.window >> (64 - look_bits)];
    if (__builtin_expect(e & entry::special, 0)) {
        const int value = long_symbol(bits, dc, wrong).value;
        bits.fill();
        return value;
    }
    bits.drop(int(e & entry::length));
    return std::int32_t(e) >> entry::value;
}

// Coefficients after the first, row by row, into a block of zeros. Returns the place of the last that may differ
// from zero. `wrong` is set where they go past the 63rd.
TURBO_ALWAYS int coefficients(Bits& bits, const Huffman& ac, std::int16_t* out, unsigned& wrong) {
    int place = 1;
    for (;;) {
        std::uint32_t e;
        // Four look-ups are 44 bits.
        for (int i = 0; i < 4; ++i) {
            e = ac.coefficients[bits.window >> (64 - look_bits)];
            if (__builtin_expect(e & entry::special, 0)) goto special;
            bits.drop(int(e & entry::length));
            place += int(e >> entry::places & entry::places_mask);
            out[zigzag[place - 1]] = std::int16_t(e >> entry::value);
            if (place >= 64) goto full;
        }
        bits.fill();
        continue;

    special:
        if (e & entry::long_code) {
            const LongSymbol symbol = long_symbol(bits, ac, wrong);
            bits.fill();
            if (symbol.size) {
                place += symbol.run + 1;
                out[zigzag[place - 1]] = std::int16_t(symbol.value);
            } else if (symbol.run == 15) {
                place += 16;
            } else {
                return place - 1;
            }
        } else {
            bits.drop(int(e & entry::length));
            if ((e >> entry::places & entry::places_mask) != 16) return place - 1;
            place += 16;
            bits.fill();
        }
        if (place >= 64) goto full;
    }
full:
    wrong |= unsigned(place > 64);
    return 63;
}

// Moves past the coefficients.
TURBO_ALWAYS void skip_coefficients(Bits& bits, const Huffman& ac, unsigned& wrong) {
    int place = 1;
    for (;;) {
        bool long_code = false;
        for (int i = 0; i < 4; ++i) {
            const unsigned e = ac.skips[bits.window >> (64 - look_bits)];
            const int next = place + int(e >> skip_entry::places);
            // An entry that goes past the 63rd coefficient holds symbols of the next block.
            if (__builtin_expect((e & skip_entry::length) == 0 || next > 64, 0)) {
                long_code = true;
                break;
            }
            bits.drop(int(e & skip_entry::length));
            place = next;
            if (e & skip_entry::end || place == 64) return;
        }
        if (!long_code) {
            bits.fill();
            continue;
        }
        const LongSymbol symbol = long_symbol(bits, ac, wrong);
        bits.fill();
        if (symbol.size == 0 && symbol.run != 15) return;
        place += symbol.run + 1;
        if (place >= 64) break;
    }
    wrong |= unsigned(place > 64);
}

}  // namespace turbo
