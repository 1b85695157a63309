// Upsampling and colours of lines of every length, and every pair of chroma samples.
#include "lines.h"

#include <functional>

#include "checks.h"

namespace checks {
namespace {

constexpr std::size_t margin = 128;

using Kernel = std::function<void(const turbo::LineKernels&, std::uint8_t*)>;

// Runs a kernel that makes `size` bytes and may overwrite `slack` bytes behind them. `step` 4: each fourth byte is X.
void compare(const char* name, std::size_t size, std::size_t slack, std::size_t step, const Kernel& run,
             Checksum& sum) {
    Buffer scalar(size + 2 * margin, untouched), vector(scalar);
    run(turbo::line_kernels(turbo::Simd::scalar), &scalar[margin]);
    run(turbo::line_kernels(turbo::best_simd()), &vector[margin]);
    expect_untouched(name, vector.data(), margin);
    expect_untouched(name, &vector[margin + size + slack], margin - slack);
    for (std::size_t i = margin + 3; step == 4 && i < margin + size; i += 4) scalar[i] = vector[i] = 0;
    expect_equal(name, &scalar[margin], &vector[margin], size);
    sum.add(&vector[margin], size);
}

void check_count(int count, Random& random, Checksum& sum) {
    Buffer first(std::size_t(count) + 2 * margin), second(first), third(first);
    for (auto* buffer : {&first, &second, &third}) fill(*buffer, random);
    const auto at = margin - std::size_t(random.below(32));
    const auto *a = &first[at], *b = &second[at], *c = &third[at];
    const auto size = std::size_t(count);
    using Kernels = turbo::LineKernels;
    compare("h2v1", 2 * size, 64, 1, [&](const Kernels& k, auto* out) { k.fancy_h2v1(a, count, out); }, sum);
    compare("h2v2", 2 * size, 64, 1, [&](const Kernels& k, auto* out) { k.fancy_h2v2(a, b, count, out); }, sum);
    for (const int bias : {1, 2}) {
        compare("h1v2", size, 64, 1, [&](const Kernels& k, auto* out) { k.fancy_h1v2(a, b, bias, count, out); }, sum);
    }
    compare("ycc", 4 * size, 32, 4, [&](const Kernels& k, auto* out) { k.ycc(a, b, c, count, out); }, sum);
    compare("rgb", 4 * size, 32, 4, [&](const Kernels& k, auto* out) { k.rgb(a, b, c, count, out); }, sum);
    compare("grey", 4 * size, 32, 4, [&](const Kernels& k, auto* out) { k.grey(a, count, out); }, sum);
}

// Every pair of samples next to each other, in lines and between lines.
void check_pairs(Checksum& sum) {
    for (int value = 0; value < 256; ++value) {
        Buffer line(1024, std::uint8_t(value)), far(1024);
        for (std::size_t i = 0; i < line.size(); ++i) {
            if (i % 2) line[i] = std::uint8_t(i / 2);
            far[i] = std::uint8_t(i);
        }
        const Buffer near(1024, std::uint8_t(value));
        using Kernels = turbo::LineKernels;
        compare("h2v1", 1536, 64, 1, [&](const Kernels& k, auto* out) { k.fancy_h2v1(&line[1], 768, out); }, sum);
        for (const int bias : {1, 2}) {
            compare("h1v2", 256, 64, 1,
                    [&](const Kernels& k, auto* out) { k.fancy_h1v2(near.data(), far.data(), bias, 256, out); }, sum);
        }
    }
}

int check_colours(Checksum& sum) {
    Buffer y(512), cb(512), cr(512);
    for (std::size_t i = 0; i < cb.size(); ++i) cb[i] = std::uint8_t(i);
    int lines = 0;
    for (int level = 0; level < 256; level += 15) {
        for (int red = 0; red < 256; ++red, ++lines) {
            y.assign(y.size(), std::uint8_t(level));
            cr.assign(cr.size(), std::uint8_t(red));
            compare("ycc", 1024, 32, 4,
                    [&](const turbo::LineKernels& k, auto* out) { k.ycc(y.data(), cb.data(), cr.data(), 256, out); },
                    sum);
        }
    }
    return lines;
}

}  // namespace

void check_lines() {
    Random random(2);
    Checksum sum, pairs, colours;
    constexpr int longest = 150, times = 8;
    for (int count = 1; count <= longest; ++count) {
        for (int n = 0; n < times; ++n) check_count(count, random, sum);
    }
    report("lines", longest * times, sum);
    check_pairs(pairs);
    report("pairs", 256, pairs);
    const int lines = check_colours(colours);
    report("colours", lines, colours);
}

}  // namespace checks
