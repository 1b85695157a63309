// The inverse DCT: every way in which sums of 16 and 32 bits wrap or saturate.
#include "idct.h"

#include "checks.h"

namespace checks {
namespace {

constexpr int stride = 24, size = 8 * stride, kinds = 7;

struct Block {
    alignas(32) std::int16_t coefficients[64];
    std::uint16_t quant[64];
    int last;
};

std::int16_t extreme(Random& random) {
    const std::int16_t values[] = {-32768, 32767, -1, 1, 16384, -16384, 0, 8191};
    return values[random.below(8)];
}

Block made(int kind, Random& random) {
    Block block{};
    block.last = 63;
    const int bits = 1 + random.below(16), quants = 1 + random.below(kind % 2 ? 65535 : 99);
    for (int i = 0; i < 64; ++i) block.quant[i] = std::uint16_t(1 + random.below(quants));
    const auto value = [&] { return std::int16_t(random.below(1 << bits) - (1 << (bits - 1))); };
    for (int i = 0; i < 64; ++i) {
        const bool there = kind < 3 || (kind == 3 ? random.below(8) == 0 : kind == 4 ? i < 8 : kind == 5 && i == 0);
        if (there) block.coefficients[i] = kind == 2 ? extreme(random) : value();
    }
    if (kind == 5) block.last = 0;
    if (kind == 6) block.coefficients[random.below(64)] = extreme(random);
    return block;
}

// `edge` 8: one block after the other; 16: both at once; less: to fewer samples.
void transform(turbo::Simd simd, const Block (&blocks)[2], int edge, Buffer& out) {
    out.assign(2 * size, untouched);
    if (edge == 16) {
        const turbo::IdctTask tasks[2] = {{blocks[0].coefficients, blocks[0].quant, &out[8], stride},
                                          {blocks[1].coefficients, blocks[1].quant, &out[size + 8], stride}};
        turbo::idct_pair_for(simd)(tasks);
        return;
    }
    for (int i = 0; i < 2; ++i) {
        const Block& block = blocks[i];
        const auto idct = edge == 8 ? turbo::idct_for(simd) : turbo::idct_shrunk_for(edge, simd);
        idct(block.coefficients, block.quant, block.last, &out[std::size_t(i * size + 8)], stride);
    }
}

}  // namespace

void check_idct() {
    constexpr int cases = 20000;
    Random random(1);
    Checksum sum;
    Buffer scalar, vector;
    for (int n = 0; n < cases; ++n) {
        const Block blocks[2] = {made(n % kinds, random), made(n / kinds % kinds, random)};
        for (const int edge : {1, 2, 4, 8, 16}) {
            transform(turbo::Simd::scalar, blocks, edge, scalar);
            transform(turbo::best_simd(), blocks, edge, vector);
            expect_equal("idct", scalar.data(), vector.data(), scalar.size());
            sum.add(vector.data(), vector.size());
        }
    }
    report("idct", cases, sum);
}

}  // namespace checks
