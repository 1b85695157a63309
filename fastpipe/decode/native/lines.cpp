#include "lines.h"

#include <cstring>

namespace turbo {
namespace {

void fancy_h2v1(const std::uint8_t* in, int count, std::uint8_t* out) {
    for (int i = 0; i < count; ++i) {
        const int three = 3 * in[i];
        out[2 * i] = std::uint8_t((three + in[i - 1] + 1) >> 2);
        out[2 * i + 1] = std::uint8_t((three + in[i + 1] + 2) >> 2);
    }
}

void fancy_h2v2(const std::uint8_t* near, const std::uint8_t* far, int count, std::uint8_t* out) {
    const auto sum = [&](int i) { return 3 * near[i] + far[i]; };
    int before = sum(-1), here = sum(0);
    for (int i = 0; i < count; ++i) {
        const int after = sum(i + 1);
        out[2 * i] = std::uint8_t((3 * here + before + 8) >> 4);
        out[2 * i + 1] = std::uint8_t((3 * here + after + 7) >> 4);
        before = here;
        here = after;
    }
}

void fancy_h1v2(const std::uint8_t* near, const std::uint8_t* far, int bias, int count, std::uint8_t* out) {
    for (int i = 0; i < count; ++i) out[i] = std::uint8_t((3 * near[i] + far[i] + bias) >> 2);
}

std::uint8_t clip(int value) { return std::uint8_t(value < 0 ? 0 : value > 255 ? 255 : value); }

// Constants with 16 fractional bits; the shift of a negative sum rounds down.
void ycc(const std::uint8_t* y, const std::uint8_t* cb, const std::uint8_t* cr, int count, std::uint8_t* out) {
    constexpr int half = 32768;
    for (int i = 0; i < count; ++i, out += 4) {
        const int b = cb[i] - 128, r = cr[i] - 128;
        out[0] = clip(y[i] + ((91881 * r + half) >> 16));
        out[1] = clip(y[i] + ((-22554 * b - 46802 * r + half) >> 16));
        out[2] = clip(y[i] + ((116130 * b + half) >> 16));
        out[3] = 0;
    }
}

void rgb(const std::uint8_t* r, const std::uint8_t* g, const std::uint8_t* b, int count, std::uint8_t* out) {
    for (int i = 0; i < count; ++i, out += 4) {
        out[0] = r[i];
        out[1] = g[i];
        out[2] = b[i];
        out[3] = 0;
    }
}

void grey(const std::uint8_t* y, int count, std::uint8_t* out) { rgb(y, y, y, count, out); }

constexpr LineKernels scalar{fancy_h2v1, fancy_h2v2, fancy_h1v2, ycc, rgb, grey};

}  // namespace

const LineKernels& line_kernels(Simd simd) noexcept {
#if defined(__x86_64__)
    if (simd == Simd::avx2) return line_kernels_avx2;
#elif defined(__aarch64__)
    if (simd == Simd::neon) return line_kernels_neon;
#endif
    (void)simd;
    return scalar;
}

void replicate(const std::uint8_t* in, int times, int count, std::uint8_t* out) noexcept {
    for (int i = 0; i < count; ++i, out += times) std::memset(out, in[i], std::size_t(times));
}

}  // namespace turbo
