// A reader of bits. It takes eight bytes at a time from unstuffed data with `scan_padding` zeros behind them, so
// it needs no check for each read: whoever reads looks at ends_within() once an MCU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace turbo {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(std::size_t) == 8, "Pillow does it all elsewhere");

struct Bits {
    const std::uint8_t* next;   // the first byte of which no bit counts
    std::uint64_t window = 0;   // the next bits, from the top
    int count = 0;              // how many of them count; those below may hold the right bits already

    explicit Bits(const std::uint8_t* start) noexcept : next(start) {}

    // At least 56 bits afterwards.
    inline __attribute__((always_inline)) void fill() noexcept {
        std::uint64_t eight;
        std::memcpy(&eight, next, 8);
        window |= __builtin_bswap64(eight) >> count;
        next += (63 - count) >> 3;
        count |= 56;
    }
    inline __attribute__((always_inline)) void drop(int n) noexcept {
        window <<= n;
        count -= n;
    }
    // As many bits as the low byte of a table's entry says, at most 63. The shift masks the entry by itself, so that
    // it waits for nothing but the look-up.
    inline __attribute__((always_inline)) void drop_entry(std::uint64_t entry) noexcept {
        window <<= entry & 63;
        count -= int(std::uint8_t(entry));
    }
    // The next n bits, 1 <= n <= 32, which stay.
    inline unsigned peek(int n) const noexcept { return unsigned(window >> (64 - n)); }
    inline unsigned take(int n) noexcept {
        const unsigned bits = peek(n);
        drop(n);
        return bits;
    }
    // No bit was taken that lies behind `end`.
    bool ends_within(const std::uint8_t* end) const noexcept { return (next - (count >> 3)) <= end; }
};

}  // namespace turbo
