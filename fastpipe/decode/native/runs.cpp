#include "runs.h"

#include "blocks.h"

namespace turbo {
namespace {

TURBO_ALWAYS bool sound(const Stream& stream, const Bits& bits, unsigned wrong) {
    return wrong == 0 && bits.ends_within(stream.end);
}

// A loop or memset of this size becomes `rep stos`, which costs 3 % of a decode.
typedef long long Vector __attribute__((vector_size(32), may_alias));
TURBO_ALWAYS void clear(std::int16_t* block) {
    auto* vectors = reinterpret_cast<Vector*>(block);
    vectors[0] = vectors[1] = vectors[2] = vectors[3] = Vector{};
}

// The reader is copied, so that it stays in registers.
TURBO_ALWAYS bool skip(Stream& stream, const Layout& layout, int count) {
    Bits bits = stream.bits;
    unsigned wrong = 0;
    for (int n = 0; n < count; ++n) {
        for (int i = 0; i < layout.count; ++i) {
            const auto& place = layout.places[i];
            stream.means[place.component] += difference(bits, *place.dc, wrong);
            skip_coefficients(bits, *place.ac, wrong);
        }
        if (__builtin_expect(!sound(stream, bits, wrong), 0)) return false;
    }
    stream.bits = bits;
    return true;
}

// Blocks wait until there are two to transform.
class Transforms {
public:
    explicit Transforms(const Layout& layout) : layout_(layout) {}
    // A block of zeros to be filled.
    TURBO_ALWAYS std::int16_t* block() { return blocks_[waiting_]; }
    TURBO_ALWAYS void filled(int component, int last, std::uint8_t* out, std::ptrdiff_t stride) {
        auto* block = blocks_[waiting_];
        const auto* quant = layout_.quant[component];
        if (last == 0) {
            layout_.idct(block, quant, last, out, stride);
            return;  // the mean is written anew in each block
        }
        tasks_[waiting_] = {block, quant, out, stride};
        if (++waiting_ == 2) {
            layout_.idct_pair(tasks_);
            clear(blocks_[0]);
            clear(blocks_[1]);
            waiting_ = 0;
        }
    }
    TURBO_ALWAYS void finish() {
        if (waiting_) layout_.idct(tasks_[0].coefficients, tasks_[0].quant, 63, tasks_[0].out, tasks_[0].stride);
    }

private:
    const Layout& layout_;
    alignas(32) std::int16_t blocks_[2][64] = {};
    IdctTask tasks_[2];
    int waiting_ = 0;
};

// The same for a block of fewer samples. Blocks of a component are all of one kind.
TURBO_ALWAYS void shrunk_block(Bits& bits, const Layout& layout, const Place& place, int mean, std::uint8_t* out,
                               std::ptrdiff_t stride, unsigned& wrong) {
    alignas(32) std::int16_t block[64];
    clear(block);
    const int last = low_coefficients(bits, *place.ac, block, layout.limit[place.component], wrong);
    block[0] = std::int16_t(mean);
    layout.shrunk[place.component](block, layout.quant[place.component], last, out, stride);
}

template <bool shrinks>
TURBO_ALWAYS bool decode(Stream& stream, const Layout& layout, int column, int row, int count, RowMaker& rows) {
    Bits bits = stream.bits;
    unsigned wrong = 0;
    Transforms transforms(layout);
    for (int n = 0; n < count; ++n, ++column) {
        for (int i = 0; i < layout.count; ++i) {
            const auto& place = layout.places[i];
            const int c = place.component;
            stream.means[c] += difference(bits, *place.dc, wrong);
            const int block_column = column * layout.h[c] + place.column, block_row = row * layout.v[c] + place.row;
            if (rows.block_columns(c).has(block_column) && rows.block_rows(c).has(block_row)) {
                if (shrinks && layout.shrunk[c]) {
                    shrunk_block(bits, layout, place, stream.means[c], rows.block(c, block_column, place.row),
                                 rows.stride(c), wrong);
                    continue;
                }
                auto* block = transforms.block();
                const int last = coefficients(bits, *place.ac, block, wrong);
                block[0] = std::int16_t(stream.means[c]);
                transforms.filled(c, last, rows.block(c, block_column, place.row), rows.stride(c));
            } else {
                skip_coefficients(bits, *place.ac, wrong);
            }
        }
        if (__builtin_expect(!sound(stream, bits, wrong), 0)) return false;
    }
    transforms.finish();
    stream.bits = bits;
    return true;
}

bool skip_plain(Stream& stream, const Layout& layout, int count) { return skip(stream, layout, count); }

bool decode_plain(Stream& stream, const Layout& layout, int column, int row, int count, RowMaker& rows) {
    return decode<false>(stream, layout, column, row, count, rows);
}

bool decode_shrunk_plain(Stream& stream, const Layout& layout, int column, int row, int count, RowMaker& rows) {
    return decode<true>(stream, layout, column, row, count, rows);
}

constexpr RunKernels plain{skip_plain, decode_plain, decode_shrunk_plain};

#if defined(__x86_64__)
#define TURBO_BMI2 __attribute__((target("avx2,bmi,bmi2")))

TURBO_BMI2 bool skip_bmi2(Stream& stream, const Layout& layout, int count) { return skip(stream, layout, count); }

TURBO_BMI2 bool decode_bmi2(Stream& stream, const Layout& layout, int column, int row, int count, RowMaker& rows) {
    return decode<false>(stream, layout, column, row, count, rows);
}

TURBO_BMI2 bool decode_shrunk_bmi2(Stream& stream, const Layout& layout, int column, int row, int count,
                                   RowMaker& rows) {
    return decode<true>(stream, layout, column, row, count, rows);
}

constexpr RunKernels bmi2{skip_bmi2, decode_bmi2, decode_shrunk_bmi2};
#endif

}  // namespace

const RunKernels& run_kernels(Simd simd) noexcept {
#if defined(__x86_64__)
    if (simd == Simd::avx2) return bmi2;
#endif
    (void)simd;
    return plain;
}

}  // namespace turbo
