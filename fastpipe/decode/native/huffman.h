// Huffman tables as the entropy decoders read them. They are kept by content: building two costs as much as
// decoding a small image.
#pragma once
#include "markers.h"
#include "memory.h"

namespace turbo {

// Widths of the look-ups. On photographs of 102 kB, the tables of a file must stay in 32 kB of level 1: 9 bits for
// pairs cost 10 % more, 11 bits 6 %; 10 bits for skips 3 %, 12 bits 3 %.
constexpr int look_bits = 10, pair_bits = 10, skip_bits = 11;
constexpr int look_size = 1 << look_bits;

// An entry of Huffman::coefficients (code and its extra bits fit into the look-up) and of Huffman::dc:
//   bits 0-5 length of both; bit 6 `special`; bit 7 `long_code`; bits 8-12 places to move on (run + 1);
//   bits 16-31 the value.
// Special entries: an end of block (or of a band: the run is in the bits above), ZRL (move on 16 places), and
// `long_code` (take symbol(), then the extra bits).
namespace entry {
constexpr std::uint32_t length = 63, special = 64, long_code = 128, places_mask = 31;
constexpr int places = 8, value = 16;
}  // namespace entry

// An entry of Huffman::skips: several symbols at once. Bits 0-7 length; bits 8-15 places to move on, plus 128
// where the fast path ends: at an end of block, which counts for one place, and where nothing fits the look-up
// (length 0). It may only be taken while it stays within the block, place + places <= 64: its last symbols are the
// next block's otherwise.
namespace skip_entry {
constexpr unsigned length = 255, leave = 128;
constexpr int places = 8;
}  // namespace skip_entry

// An entry of Huffman::pairs: up to two coefficients, then perhaps an end of block. Bits 0-7 length; bits 8-15
// where the first value goes, counted from the current place; bits 16-23 the second, which is the first where
// there is one only (it is to be stored before the first); bits 24-29 places to move on, where an end of block
// counts for one; bit 30 end of block; bit 31 `leave` as above; bits 32-47 and 48-63 the values. ZRL is a value
// of 0.
namespace pair_entry {
constexpr unsigned length = 255, places_mask = 63, end = 64, leave = 128;
constexpr int first = 8, second = 16, places = 24, first_value = 32, second_value = 48;
}  // namespace pair_entry

struct Symbol {
    int length;  // of the code; 0: no such code
    int symbol;
};

struct Huffman {
    HuffmanSpec spec;
    std::uint32_t coefficients[look_size];  // of a DC table: its differences, with 1 place
    std::uint64_t pairs[1 << pair_bits];    // of an AC table, where it was asked for
    std::uint16_t skips[1 << skip_bits];    // with `pairs`
    std::uint16_t symbols[look_size];       // length << 8 | symbol; 0: a longer code, or none
    std::uint32_t limits[17];               // first 16-bit window above the codes of up to 0..16 bits
    int firsts[17];                         // index in spec.values of the first code of 1..16 bits
    std::uint64_t used;                     // the time of the last use
    bool dc, has_skips;

    // A code of more than look_bits at the start of a window of 16: length << 8 | symbol; 0: no such code.
    unsigned long_code(std::uint32_t window) const noexcept;
    // The next symbol, from a window of the next 16 bits.
    Symbol symbol(std::uint32_t window) const noexcept {
        unsigned found = symbols[window >> (16 - look_bits)];
        if (found == 0) found = long_code(window);
        return {int(found >> 8), int(found & 255)};
    }
};

// Receives `size` extra bits as a signed value (HUFF_EXTEND); `bits` are those of the stream.
inline int extend(unsigned bits, int size) noexcept {
    return size && bits < (1u << (size - 1)) ? int(bits) - int((1u << size) - 1) : int(bits);
}

class HuffmanTables {
public:
    // The table of `spec`, or null where libjpeg would refuse it or memory fails. It stays valid for as long as
    // no more than `kept` others are asked for.
    const Huffman* find(const HuffmanSpec& spec, bool dc, bool skips) noexcept;
    static constexpr int kept = 24;

private:
    Buffer<Huffman> tables_;
    int count_ = 0;
    std::uint64_t time_ = 0;
};

}  // namespace turbo
