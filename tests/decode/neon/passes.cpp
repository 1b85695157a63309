// The passes of a resize, of every filter, for axes that shrink, grow, and begin inside the image.
#include "passes.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "checks.h"

namespace checks {
namespace {

constexpr std::size_t margin = 64;

// Rows with what the passes may read behind them.
struct Rows {
    std::size_t stride;
    Buffer bytes;
    Rows(std::size_t size, std::size_t count) : stride(size + 16 + turbo::kRowSlack), bytes(stride * count) {}
    const std::uint8_t* row(int y) const { return &bytes[stride * std::size_t(y)]; }
};

struct Out {
    Buffer first, second;
    explicit Out(std::size_t size)
        : first(size + turbo::kRowSlack + margin, untouched), second(first) {}
    void compare(const char* name, const Out& vector, std::size_t size, std::size_t slack, Checksum& sum) const {
        for (const auto& [a, b] : {std::pair(&first, &vector.first), std::pair(&second, &vector.second)}) {
            expect_equal(name, a->data(), b->data(), size);
            expect_untouched(name, b->data() + size + slack, b->size() - size - slack);
            sum.add(b->data(), size);
        }
    }
};

void check_horizontal(const turbo::Axis& axis, const turbo::Passes (&both)[2], Random& random, Checksum& sum) {
    Rows rows(4 * std::size_t(axis.length()), 2);
    fill(rows.bytes, random);
    const std::size_t size = 3 * std::size_t(axis.num());
    Out out[2] = {Out(size), Out(size)};
    const std::uint8_t* const in[] = {rows.row(0), rows.row(1)};
    for (int i = 0; i < 2; ++i) {
        std::uint8_t* const to[] = {out[i].first.data(), out[i].second.data()};
        both[i].horizontal(axis, in, to);
    }
    out[0].compare("horizontal", out[1], size, turbo::kRowSlack, sum);
}

void check_pack(const turbo::Passes (&both)[2], int num, Random& random, Checksum& sum) {
    Rows rows(4 * std::size_t(num), 1);
    fill(rows.bytes, random);
    const std::size_t size = 3 * std::size_t(num);
    Out out[2] = {Out(size), Out(size)};
    for (int i = 0; i < 2; ++i) both[i].pack(rows.row(0), num, out[i].first.data());
    out[0].compare("pack", out[1], size, turbo::kRowSlack, sum);
}

void check_vertical(const turbo::Axis& axis, const turbo::Passes (&both)[2], Random& random, Checksum& sum) {
    const std::size_t size = 1 + std::size_t(random.below(100));
    Rows rows(size, std::size_t(axis.length()) + 1);
    fill(rows.bytes, random);
    for (int y = 0; y < axis.num(); ++y) {
        const int begin = std::min(axis.vector_firsts()[y], random.below(3));
        Out out[2] = {Out(size), Out(size)};
        for (int i = 0; i < 2; ++i) {
            both[i].vertical(axis, y, rows.row(begin), begin, std::ptrdiff_t(rows.stride), int(size),
                             out[i].first.data());
        }
        out[0].compare("vertical", out[1], size, 0, sum);
    }
}

}  // namespace

void check_passes() {
    constexpr int cases = 600;
    Random random(3);
    Checksum across_sum, down_sum, pack_sum;
    for (int n = 0; n < cases; ++n) {
        const auto filter = turbo::Filter(1 + n % 5);
        int in = 4 + random.below(n % 7 ? 120 : 900), out = 1 + random.below(150);
        if (in == out) ++in;
        const int from = random.below(out), num = 1 + random.below(out - from);
        const double begin = n % 2 ? 0 : random.below(8) / 8.0;
        const turbo::Course course{in, begin, double(in), out, from, num, filter};
        turbo::Axis across, down;
        if (!across.prepare(course, 4) || !down.prepare(course, 2)) std::abort();
        const turbo::Passes both[2] = {turbo::kScalarPasses, turbo::passes(turbo::best_simd(), across, down)};
        check_horizontal(across, both, random, across_sum);
        check_vertical(down, both, random, down_sum);
        check_pack(both, num, random, pack_sum);
    }
    report("horizontal", cases, across_sum);
    report("vertical", cases, down_sum);
    report("pack", cases, pack_sum);
}

}  // namespace checks
