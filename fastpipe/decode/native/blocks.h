// One block of baseline data: its coefficients, or only its length and its mean. Inlined into functions that are
// compiled for an instruction set (BMI2's shifts save an instruction in each symbol).
#pragma once
#include "bits.h"
#include "huffman.h"

namespace turbo {

#define TURBO_ALWAYS inline __attribute__((always_inline))

// A code that is longer than the look-up, or whose extra bits are. All but the search of the code is inlined: the
// reader must stay in registers, and the address of a local would keep it in memory (10 % of a decode).
struct LongSymbol {
    int run, size, value;
};
TURBO_ALWAYS LongSymbol long_symbol(Bits& bits, const Huffman& table, unsigned& wrong) {
    bits.fill();
    unsigned found = table.symbols[bits.window >> (64 - look_bits)];
    if (__builtin_expect(found == 0, 0)) {
        found = table.long_code(bits.peek(16));
        wrong |= unsigned(found == 0);
    }
    bits.drop(int(found >> 8));
    const int size = int(found & 15);
    // The bits above are shifted out twice, as a shift by 64 is not defined.
    const int value = extend(unsigned(bits.window >> 1 >> (63 - size)), size);
    bits.drop(size);
    bits.fill();
    return {int(found >> 4 & 15), size, value};
}

// The difference to the mean of the block before. At least 46 bits are left in the window.
TURBO_ALWAYS int difference(Bits& bits, const Huffman& dc, unsigned& wrong) {
    bits.fill();
    const std::uint32_t e = dc.coefficients[bits.window >> (64 - look_bits)];
    if (__builtin_expect(e & entry::special, 0)) {
        return long_symbol(bits, dc, wrong).value;
    }
    bits.drop(int(e & entry::length));
    return std::int32_t(e) >> entry::value;
}

// The next symbol alone: returns the place after it, or -1 at an end of block.
TURBO_ALWAYS int one_coefficient(Bits& bits, const Huffman& ac, std::int16_t* out, int place, unsigned& wrong) {
    const std::uint32_t e = ac.coefficients[bits.window >> (64 - look_bits)];
    if (e & entry::long_code) {
        const LongSymbol symbol = long_symbol(bits, ac, wrong);
        if (symbol.size == 0 && symbol.run != 15) return -1;
        place += symbol.run + 1;
        out[zigzag[place - 1]] = std::int16_t(symbol.value);
        return place;
    }
    bits.drop(int(e & entry::length));
    const int places = int(e >> entry::places & entry::places_mask);
    if (e & entry::special) return places == 16 ? place + 16 : -1;
    place += places;
    out[zigzag[place - 1]] = std::int16_t(e >> entry::value);
    return place;
}

TURBO_ALWAYS void store_pair(std::uint64_t e, std::int16_t* out, int place) {
    const auto at = [&](int shift) { return zigzag[place + int(std::uint8_t(e >> shift))]; };
    out[at(pair_entry::second)] = std::int16_t(e >> pair_entry::second_value);
    out[at(pair_entry::first)] = std::int16_t(e >> pair_entry::first_value);
}

// Coefficients after the first, row by row, into a block of zeros. Returns the place of the last that may differ
// from zero. `wrong` is set where they go past the 63rd.
TURBO_ALWAYS int coefficients(Bits& bits, const Huffman& ac, std::int16_t* out, unsigned& wrong) {
    int place = 1;
    for (;;) {
        std::uint64_t e;
        // Four look-ups are 40 bits.
        for (int i = 0; i < 4; ++i) {
            e = ac.pairs[bits.window >> (64 - pair_bits)];
            const int next = place + int(std::uint8_t(e >> pair_entry::places));
            if (__builtin_expect(next >= 64, 0)) goto leave;
            bits.drop_entry(e);
            store_pair(e, out, place);
            place = next;
        }
        bits.fill();
        continue;

    leave:
        const auto places = int(e >> pair_entry::places & pair_entry::places_mask);
        // An entry that goes past the 63rd coefficient holds symbols of the next block.
        if (__builtin_expect((e & pair_entry::length) != 0 && place + places <= 64, 1)) {
            bits.drop_entry(e);
            store_pair(e, out, place);
            const bool end = e >> pair_entry::places & pair_entry::end;
            return place + places - 1 - int(end);
        }
        const int next = one_coefficient(bits, ac, out, place, wrong);
        if (next < 0) return place - 1;
        place = next;
        if (place >= 64) break;
        bits.fill();
    }
    wrong |= unsigned(place > 64);
    return 63;
}

// Moves past the coefficients from `place` on.
TURBO_ALWAYS void skip_coefficients(Bits& bits, const Huffman& ac, unsigned& wrong, int place = 1) {
    for (;;) {
        unsigned e;
        // Four look-ups are 44 bits.
        for (int i = 0; i < 4; ++i) {
            e = ac.skips[bits.window >> (64 - skip_bits)];
            const int next = place + int(e >> skip_entry::places);
            if (__builtin_expect(next >= 64, 0)) goto leave;
            bits.drop_entry(e);
            place = next;
        }
        bits.fill();
        continue;

    leave:
        const int places = int(e >> skip_entry::places & 127);
        if (__builtin_expect((e & skip_entry::length) != 0 && place + places <= 64, 1)) {
            bits.drop_entry(e);
            return;
        }
        const LongSymbol symbol = long_symbol(bits, ac, wrong);
        if (symbol.size == 0 && symbol.run != 15) return;
        place += symbol.run + 1;
        if (place >= 64) break;
    }
    wrong |= unsigned(place > 64);
}

// Those up to place `limit`, and perhaps one after it; the rest is skipped.
TURBO_ALWAYS int low_coefficients(Bits& bits, const Huffman& ac, std::int16_t* out, int limit, unsigned& wrong) {
    int place = 1;
    while (place <= limit) {
        const int next = one_coefficient(bits, ac, out, place, wrong);
        bits.fill();
        if (next < 0) return place - 1;
        place = next;
        if (place >= 64) {
            wrong |= unsigned(place > 64);
            return 63;
        }
    }
    skip_coefficients(bits, ac, wrong, place);
    return place - 1;
}

}  // namespace turbo
