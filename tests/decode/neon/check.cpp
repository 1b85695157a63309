// Compares the machine's vector code with the scalar code, and prints checksums of the results: the kernels on random
// and extreme input, then the JPEG files that are named as arguments, decoded and resized.
#include "checks.h"

#include <cstdio>
#include <cstdlib>

namespace checks {

void Checksum::add(const std::uint8_t* data, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        state_ ^= data[i];
        for (int bit = 0; bit < 8; ++bit) state_ = (state_ >> 1) ^ (0xEDB88320u & (0u - (state_ & 1u)));
    }
}

void fill(Buffer& buffer, Random& random) {
    const int kind = random.below(3);
    int value = random.below(256);
    for (auto& byte : buffer) {
        if (kind == 0) value = random.below(256);
        if (kind == 1) value = 255 * random.below(2);
        if (kind == 2) value = (value + random.below(7) - 3) & 255;
        byte = std::uint8_t(value);
    }
}

void expect_equal(const char* what, const std::uint8_t* scalar, const std::uint8_t* vector, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        if (scalar[i] == vector[i]) continue;
        std::printf("%s: byte %zu is %d in scalar code, %d in vector code\n", what, i, scalar[i], vector[i]);
        std::exit(1);
    }
}

void expect_untouched(const char* what, const std::uint8_t* bytes, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        if (bytes[i] == untouched) continue;
        std::printf("%s: byte %zu of those behind or before the result is overwritten\n", what, i);
        std::exit(1);
    }
}

void report(const char* name, int cases, const Checksum& sum) {
    std::printf("%s %d %08x\n", name, cases, unsigned(sum.value()));
}

}  // namespace checks

int main(int count, char** arguments) {
    const char* const names[] = {"scalar", "avx2", "neon"};
    std::fprintf(stderr, "simd %s\n", names[int(turbo::best_simd())]);
    if (turbo::best_simd() == turbo::Simd::scalar) return 2;
    checks::check_idct();
    checks::check_lines();
    checks::check_passes();
    for (int i = 1; i < count; ++i) checks::check_file(arguments[i]);
    return 0;
}
