// Huffman tables as the entropy decoders read them. They are kept by content: building two costs as much as
// decoding a small image.
#pragma once
#include "markers.h"
#include "memory.h"

namespace turbo {

// 11 bits were fastest on photographs of 102 kB (9: +17 %, 10: +2 %, 12: +7 %, 13: +19 %): the tables of a
// file must stay in 32 kB of level 1.
constexpr int look_bits = 11;
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

// An entry of Huffman::skips: several symbols at once. Bits 0-5 length, 0: long code; bit 6 end of block;
// bits 8-14 places to move on, where an end of block counts for one. It may only be taken while it stays within
// the block, place + places <= 64: its last symbols are the next block's otherwise.
namespace skip_entry {
constexpr unsigned length = 63, end = 64;
constexpr int places = 8;
}  // namespace skip_entry

struct Symbol {
    int length;  // of the code; 0: no such code
    int symbol;
};

struct Huffman {
    HuffmanSpec spec;
    std::uint32_t coefficients[look_size];  // of a DC table: its differences, with 1 place
    std::uint16_t skips[look_size];         // of an AC table, where it was asked for
    std::uint16_t symbols[look_size];       // length << 8 | symbol; 0: a longer code, or none
    std::uint32_t limits[18];               // first 16-bit window above the codes of up to 0..16 bits
    int firsts[17];                         // index in spec.values of the first code of 1..16 bits
    std::uint64_t used;                     // the time of the last use
    bool dc, has_skips;

    // The next symbol, from a window of the next 16 bits.
    Symbol symbol(std::uint32_t window) const noexcept {
        const unsigned fast = symbols[window >> (16 - look_bits)];
        if (fast) return {int(fast >> 8), int(fast & 255)};
        for (int length = look_bits + 1; length <= 16; ++length) {
            if (window < limits[length]) {
                const std::uint32_t offset = (window - limits[length - 1]) >> (16 - length);
                return {length, spec.values[unsigned(firsts[length]) + offset]};
            }
        }
        return {0, 0};
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
