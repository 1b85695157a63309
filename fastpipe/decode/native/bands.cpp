#include "bands.h"

#include "band_blocks.h"

namespace turbo {
namespace {

// A correction bit: 1 makes the absolute value larger by `bit`.
template <bool keeps>
TURBO_BAND void correct(Bits& bits, int place, std::int16_t* block, int bit) {
    const int taken = int(bits.take(1));
    if (!keeps) return;
    auto& value = block[place];
    value = std::int16_t(value + ((value >> 15) | 1) * (bit & -taken));
}

// Passes over the coefficients that are not zero from place `k` on, and over `zeros` zeros between them. Returns
// the next zero's place; 64 where the band ends before.
template <bool keeps>
TURBO_BAND int pass(Bits& bits, const Band& band, Places old, int k, int zeros, std::int16_t* block) {
    Places left = old & places(k, band.last);
    while (left) {
        const int place = __builtin_clzll(left);
        if (place - k > zeros) break;
        zeros -= place - k;
        bits.fill();
        correct<keeps>(bits, place, block, 1 << band.low);
        k = place + 1;
        left &= ~(top_place >> place);
    }
    return k + zeros <= band.last ? k + zeros : 64;
}

// One block of a scan that refines; the places that become nonzero are added to `map`.
template <bool keeps>
TURBO_BAND bool refine_block(Bits& bits, const Band& band, unsigned& run, Places& map, std::int16_t* block) {
    const Places old = map;
    const int bit = 1 << band.low;
    int k = band.first;
    while (run == 0 && k <= band.last) {
        bits.fill();
        const auto code = band.table->symbol(bits.peek(16));
        const int size = code.symbol & 15, zeros = code.symbol >> 4;
        if (code.length == 0 || size > 1) return false;
        bits.drop(code.length);
        if (size == 0 && zeros < 15) {
            run = ended_blocks(bits, zeros);
            break;
        }
        const bool positive = size && bits.take(1);
        const int place = pass<keeps>(bits, band, old, k, zeros, block);
        if (place > band.last) return false;
        if (size) {
            map |= top_place >> place;
            if (keeps) block[place] = std::int16_t(positive ? bit : -bit);
        }
        k = place + 1;
    }
    if (run == 0) return true;
    --run;
    if (k <= band.last) pass<keeps>(bits, band, old, k, 64, block);
    return true;
}

template <bool keeps>
bool refine_blocks(BandStream& stream, const Band& band, int count, Places* nonzero, std::int16_t* values) {
    Bits bits = stream.bits;
    unsigned run = stream.run;
    for (int at = 0; at < count; ++at) {
        Places map = nonzero[at];
        auto* block = keeps ? values + 64 * std::ptrdiff_t(at) : nullptr;
        if (!refine_block<keeps>(bits, band, run, map, block) || !bits.ends_within(stream.end)) return false;
        nonzero[at] = map;
    }
    stream.bits = bits;
    stream.run = run;
    return true;
}

bool first(BandStream& stream, const Band& band, int count, Places* nonzero, std::int16_t* values) {
    return values ? first_blocks<true>(stream, band, count, nonzero, values)
                  : first_blocks<false>(stream, band, count, nonzero, values);
}

bool refine(BandStream& stream, const Band& band, int count, Places* nonzero, std::int16_t* values) {
    return values ? refine_blocks<true>(stream, band, count, nonzero, values)
                  : refine_blocks<false>(stream, band, count, nonzero, values);
}

}  // namespace

BandReaders band_readers(Simd simd) noexcept {
#if defined(__x86_64__)
    // Zen 1 and 2 have the instruction that bands_bmi2.cpp is made of in microcode, 20 to 300 cycles long.
    if (simd == Simd::avx2 && !__builtin_cpu_is("amdfam17h")) return band_readers_bmi2();
#endif
    (void)simd;
    return {first, refine};
}

bool read_dc(BandStream& stream, const Huffman& table, int component, int low, std::int16_t& value) noexcept {
    auto& bits = stream.bits;
    bits.fill();
    const auto found = table.coefficients[bits.peek(look_bits)];
    int difference;
    if (found & entry::special) {
        const auto code = table.symbol(bits.peek(16));
        if (code.length == 0) return false;
        bits.drop(code.length);
        difference = code.symbol ? extend(bits.take(code.symbol), code.symbol) : 0;
    } else {
        bits.drop(int(found & entry::length));
        difference = std::int32_t(found) >> entry::value;
    }
    const int sum = stream.dc[component] + difference;
    // Each is below 2^15 in a regular file, so that no sum and no shift overflows.
    if (sum < -32768 || sum > 32767) return false;
    stream.dc[component] = sum;
    const int shifted = sum * (1 << low);
    value = std::int16_t(shifted);
    return value == shifted;
}

}  // namespace turbo
