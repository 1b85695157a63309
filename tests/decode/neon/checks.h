// What the checks share: random numbers, a checksum, and a comparison. Scalar code and the machine's vector code get
// the same input; the checksums are equal on every machine.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "decoder.h"

namespace checks {

// splitmix64: the same numbers everywhere.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    // 0 <= result < count
    int below(int count) { return int(next() % std::uint64_t(count)); }

private:
    std::uint64_t state_;
};

// zlib's CRC-32, so that Python can check it.
class Checksum {
public:
    void add(const std::uint8_t* data, std::size_t size);
    std::uint32_t value() const { return ~state_; }

private:
    std::uint32_t state_ = ~std::uint32_t(0);
};

using Buffer = std::vector<std::uint8_t>;

// Bytes that a kernel must not touch have this value.
constexpr std::uint8_t untouched = 0xA5;

// All random, only extremes, or slowly changing.
void fill(Buffer& buffer, Random& random);

// Tells where the first difference is, and ends the program, where the two are not equal.
void expect_equal(const char* what, const std::uint8_t* scalar, const std::uint8_t* vector, std::size_t size);
// The same where one of the bytes is not `untouched`.
void expect_untouched(const char* what, const std::uint8_t* bytes, std::size_t size);

// Every check prints one line: its name, how many cases, and the checksum of the results.
void report(const char* name, int cases, const Checksum& sum);

void check_idct();
void check_lines();
void check_passes();
void check_file(const char* path);

}  // namespace checks
