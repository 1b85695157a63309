#include "bands.h"

#include <algorithm>

#define TURBO_INLINE inline __attribute__((always_inline))

namespace turbo {
namespace {

// The places from `first` to `last`, both from 0 to 63.
TURBO_INLINE std::uint64_t places(int first, int last) {
    return (~std::uint64_t(0) >> (63 - last)) & (~std::uint64_t(0) << first);
}

TURBO_INLINE int run_of(std::uint32_t found) {
    return int(found >> entry::places & entry::places_mask) - 1;
}

// The number of blocks that symbol EOBn ends, n <= 14.
TURBO_INLINE unsigned ended_blocks(Bits& bits, int n) {
    return n ? (1u << n) + bits.take(n) : 1;
}

// What a block still lacks: the fast look-ups end in one of these.
enum class Next { coefficient, block, broken };

// A look-up that gave no value: end of band, 16 zeros, or a code with its bits longer than the look-up.
template <bool keeps>
TURBO_INLINE Next rare_entry(std::uint32_t found, Bits& bits, const Band& band, int& k, unsigned& run,
                             std::uint64_t& map, std::int16_t* block) {
    bits.fill();
    int zeros, size = 0;
    if (found & entry::long_code) {
        const auto code = band.table->symbol(bits.peek(16));
        if (code.length == 0) return Next::broken;
        bits.drop(code.length);
        zeros = code.symbol >> 4;
        size = code.symbol & 15;
    } else {
        bits.drop(int(found & entry::length));
        zeros = run_of(found);
    }
    if (size == 0) {
        if (zeros < 15) {
            run = ended_blocks(bits, zeros);
            return Next::block;
        }
        k += 16;
        return k <= band.last ? Next::coefficient : Next::broken;
    }
    k += zeros;
    if (k > band.last || size > 10) return Next::broken;
    const int value = extend(bits.take(size), size);
    map |= std::uint64_t(1) << k;
    if (keeps) block[zigzag[k]] = std::int16_t(value * (1 << band.low));
    return ++k <= band.last ? Next::coefficient : Next::block;
}

// One block in which the band has not ended before; run: with this block, how many blocks an end of band covers.
template <bool keeps>
TURBO_INLINE bool first_block(Bits& bits, const Band& band, unsigned& run, std::uint64_t& map, std::int16_t* block) {
    const auto* look = band.table->coefficients;
    int k = band.first;
    for (;;) {
        bits.fill();
        for (int n = 0; n < 56 / look_bits; ++n) {
            const auto found = look[bits.peek(look_bits)];
            if (__builtin_expect(found & entry::special, 0)) {
                const auto next = rare_entry<keeps>(found, bits, band, k, run, map, block);
                if (next == Next::coefficient) break;
                return next == Next::block;
            }
            bits.drop(int(found & entry::length));
            k += run_of(found);
            if (__builtin_expect(k > band.last, 0)) return false;
            map |= std::uint64_t(1) << k;
            if (keeps) block[zigzag[k]] = std::int16_t((std::int32_t(found) >> entry::value) * (1 << band.low));
            if (++k > band.last) return true;
        }
    }
}

template <bool keeps>
TURBO_INLINE bool first_blocks(BandStream& stream, const Band& band, int count, std::uint64_t* nonzero,
                               std::int16_t* values) {
    Bits bits = stream.bits;
    unsigned run = stream.run;
    for (int at = 0;; ++at) {
        const auto ended = std::min(run, unsigned(count - at));
        run -= ended;
        at += int(ended);
        if (at == count) break;
        std::uint64_t map = 0;
        unsigned more = 0;
        if (!first_block<keeps>(bits, band, more, map, keeps ? values + 64 * std::ptrdiff_t(at) : nullptr)) return false;
        if (!bits.ends_within(stream.end)) return false;
        nonzero[at] |= map;
        if (more) run = more - 1;
    }
    stream.bits = bits;
    stream.run = run;
    return true;
}

// A correction bit for each place of `places`: 1 makes the absolute value larger by `bit`.
template <bool keeps>
TURBO_INLINE void correct(Bits& bits, std::uint64_t places, std::int16_t* block, int bit) {
    if (!keeps) {
        bits.fill();
        for (int left = __builtin_popcountll(places); left > 0; left -= 32) {
            bits.drop(std::min(left, 32));
            bits.fill();
        }
        return;
    }
    while (places) {
        bits.fill();
        for (int n = 0; n < 56 && places; ++n, places &= places - 1) {
            auto& value = block[zigzag[__builtin_ctzll(places)]];
            const int sign = (value >> 15) | 1, taken = int(bits.take(1));
            value = std::int16_t(value + sign * (bit & -taken));
        }
    }
}

// One block of a scan that refines; the places that become nonzero are added to `map`.
template <bool keeps>
TURBO_INLINE bool refine_block(Bits& bits, const Band& band, unsigned& run, std::uint64_t& map, std::int16_t* block) {
    const std::uint64_t old = map;
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
        auto free = ~old & places(k, band.last);
        for (int n = 0; n < zeros; ++n) free &= free - 1;
        if (!free) return false;
        const int place = __builtin_ctzll(free);
        const auto passed = old & places(k, place);
        if (passed) correct<keeps>(bits, passed, block, bit);
        if (size) {
            map |= std::uint64_t(1) << place;
            if (keeps) block[zigzag[place]] = std::int16_t(positive ? bit : -bit);
        }
        k = place + 1;
    }
    if (run == 0) return true;
    --run;
    const auto passed = k <= band.last ? old & places(k, band.last) : 0;
    if (passed) correct<keeps>(bits, passed, block, bit);
    return true;
}

template <bool keeps>
TURBO_INLINE bool refine_blocks(BandStream& stream, const Band& band, int count, std::uint64_t* nonzero,
                                std::int16_t* values) {
    Bits bits = stream.bits;
    unsigned run = stream.run;
    for (int at = 0; at < count; ++at) {
        std::uint64_t map = nonzero[at];
        auto* block = keeps ? values + 64 * std::ptrdiff_t(at) : nullptr;
        if (!refine_block<keeps>(bits, band, run, map, block) || !bits.ends_within(stream.end)) return false;
        nonzero[at] = map;
    }
    stream.bits = bits;
    stream.run = run;
    return true;
}

#define TURBO_READERS(name, attributes)                                                                        \
    attributes bool first_##name(BandStream& stream, const Band& band, int count, std::uint64_t* nonzero,          \
                                 std::int16_t* values) {                                                       \
        return values ? first_blocks<true>(stream, band, count, nonzero, values)                               \
                      : first_blocks<false>(stream, band, count, nonzero, values);                             \
    }                                                                                                          \
    attributes bool refine_##name(BandStream& stream, const Band& band, int count, std::uint64_t* nonzero,         \
                                  std::int16_t* values) {                                                      \
        return values ? refine_blocks<true>(stream, band, count, nonzero, values)                              \
                      : refine_blocks<false>(stream, band, count, nonzero, values);                            \
    }

TURBO_READERS(plain, )
#if defined(__x86_64__)
// Shifts without a fixed register, and counts of bits in one instruction.
TURBO_READERS(bmi, __attribute__((target("avx2,bmi,bmi2"))))
#endif

}  // namespace

BandReaders band_readers(Simd simd) noexcept {
#if defined(__x86_64__)
    if (simd == Simd::avx2) return {first_bmi, refine_bmi};
#endif
    (void)simd;
    return {first_plain, refine_plain};
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
