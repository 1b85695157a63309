#include "huffman.h"

#include <cstring>

namespace turbo {
namespace {

// The checks of jpeg_make_d_derived_tbl (jdhuff.c).
bool make_codes(Huffman& table) {
    const auto& spec = table.spec;
    std::uint32_t code = 0;
    int index = 0;
    table.limits[0] = 0;
    for (int length = 1; length <= 16; ++length) {
        const std::uint32_t count = spec.counts[length - 1];
        table.firsts[length] = index;
        index += int(count);
        code += count << (16 - length);
        table.limits[length] = code;
        if (code >= 1u << 16) return false;  // no code may be all ones
    }
    if (table.dc) {
        for (int i = 0; i < spec.size; ++i) {
            if (spec.values[i] > 15) return false;
        }
    }
    return true;
}

void make_symbols(Huffman& table) {
    const auto& spec = table.spec;
    int at = 0, index = 0;
    for (int length = 1; length <= look_bits; ++length) {
        const int width = 1 << (look_bits - length);
        for (int i = 0; i < spec.counts[length - 1]; ++i, ++index) {
            for (int n = 0; n < width; ++n) {
                table.symbols[at++] = std::uint16_t(length << 8 | spec.values[index]);
            }
        }
    }
    std::memset(table.symbols + at, 0, std::size_t(look_size - at) * sizeof *table.symbols);
}

std::uint32_t coefficient(unsigned symbol, unsigned window, bool dc) {
    const int length = int(symbol >> 8), run = dc ? 0 : int(symbol >> 4) & 15, size = int(symbol) & 15;
    if (symbol == 0 || length + size > look_bits) return entry::special | entry::long_code;
    const std::uint32_t lower = std::uint32_t(length + size) | std::uint32_t(run + 1) << entry::places;
    if (size == 0 && !dc) return lower | entry::special;
    const unsigned bits = window >> (look_bits - length - size) & ((1u << size) - 1);
    return lower | std::uint32_t(extend(bits, size)) << entry::value;
}

void make_coefficients(Huffman& table) {
    for (unsigned window = 0; window < look_size; ++window) {
        table.coefficients[window] = coefficient(table.symbols[window], window, table.dc);
    }
}

// What follows `used` bits of a window of `bits`, as an index of a table for look_bits.
template <int bits>
unsigned rest(unsigned window, int used) {
    const unsigned left = window << used & ((1u << bits) - 1);
    if constexpr (bits > look_bits) return left >> (bits - look_bits);
    else return left << (look_bits - bits);
}

// As many symbols as fit. Those of a window that starts later are known already for larger numbers of bits used,
// yet this loop takes 10 us and a table is made once.
void make_skips(Huffman& table) {
    for (unsigned window = 0; window < 1u << skip_bits; ++window) {
        int used = 0, places = 0;
        bool end = false;
        while (used < skip_bits && places < 63) {
            const unsigned symbol = table.symbols[rest<skip_bits>(window, used)];
            const int size = int(symbol) & 15, run = int(symbol >> 4) & 15;
            const int length = int(symbol >> 8) + size;
            if (symbol == 0 || used + length > skip_bits || places + run + 1 > 64) break;
            used += length;
            if (size == 0 && run != 15) {
                end = true;
                ++places;
                break;
            }
            places += run + 1;
        }
        const unsigned next = unsigned(places) | (end || used == 0 ? skip_entry::leave : 0);
        table.skips[window] = std::uint16_t(unsigned(used) | next << skip_entry::places);
    }
    table.has_skips = true;
}

std::uint64_t pair(const Huffman& table, unsigned window) {
    int used = 0, places = 0, count = 0;
    bool end = false;
    int at[2] = {0, 0};
    unsigned values[2] = {0, 0};
    while (used < pair_bits && !end) {
        const std::uint32_t e = table.coefficients[rest<pair_bits>(window, used)];
        const int length = int(e & entry::length), moved = int(e >> entry::places & entry::places_mask);
        if (e & entry::long_code || used + length > pair_bits) break;
        end = (e & entry::special) && moved != 16;
        if (!end) {
            if (count == 2) break;
            at[count] = places + moved - 1;
            values[count++] = (e & entry::special) ? 0 : e >> entry::value;
        }
        used += length;
        places += end ? 1 : moved;
    }
    if (count == 1) at[1] = at[0];
    unsigned next = unsigned(places);
    if (end) next |= pair_entry::end | pair_entry::leave;
    if (used == 0) next |= pair_entry::leave;
    return std::uint64_t(used) | std::uint64_t(at[0]) << pair_entry::first |
           std::uint64_t(at[1]) << pair_entry::second | std::uint64_t(next) << pair_entry::places |
           std::uint64_t(values[0]) << pair_entry::first_value |
           std::uint64_t(values[1]) << pair_entry::second_value;
}

void make_pairs(Huffman& table) {
    for (unsigned window = 0; window < 1u << pair_bits; ++window) table.pairs[window] = pair(table, window);
}

}  // namespace

unsigned Huffman::long_code(std::uint32_t window) const noexcept {
    for (int length = look_bits + 1; length <= 16; ++length) {
        if (window < limits[length]) {
            const std::uint32_t offset = (window - limits[length - 1]) >> (16 - length);
            return unsigned(length) << 8 | spec.values[unsigned(firsts[length]) + offset];
        }
    }
    return 0;
}

const Huffman* HuffmanTables::find(const HuffmanSpec& spec, bool dc, bool skips) noexcept {
    if (!spec.present || !tables_.reserve(kept)) return nullptr;
    ++time_;
    Huffman* oldest = nullptr;
    for (int i = 0; i < count_; ++i) {
        auto& table = tables_[std::size_t(i)];
        if (!oldest || table.used < oldest->used) oldest = &table;
        if (table.dc != dc || table.spec.size != spec.size || std::memcmp(table.spec.counts, spec.counts, 16) ||
            std::memcmp(table.spec.values, spec.values, std::size_t(spec.size))) {
            continue;
        }
        table.used = time_;
        if (skips && !table.has_skips) {
            make_skips(table);
            make_pairs(table);
        }
        return &table;
    }
    auto& table = count_ < kept ? tables_[std::size_t(count_)] : *oldest;
    table.spec = spec;
    table.dc = dc;
    table.has_skips = false;
    table.used = 0;  // the first to go, should it be refused
    if (!make_codes(table)) {
        table.spec.size = -1;  // equal to none
        return nullptr;
    }
    if (count_ < kept) ++count_;
    table.used = time_;
    make_symbols(table);
    make_coefficients(table);
    if (skips) {
        make_skips(table);
        make_pairs(table);
    }
    return &table;
}

}  // namespace turbo
