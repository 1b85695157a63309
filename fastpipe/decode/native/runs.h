// Runs of MCUs of one segment of a baseline scan, in functions compiled for the instruction sets.
#pragma once
#include "bits.h"
#include "huffman.h"
#include "idct.h"
#include "rows.h"

namespace turbo {

// A block of an MCU: its place there and its tables.
struct Place {
    int component, column, row;
    const Huffman *dc, *ac;
};

struct Layout {
    Place places[max_blocks_in_mcu];
    int count;
    int h[max_components], v[max_components];
    std::uint16_t quant[max_components][64];
    Idct idct;
    IdctPair idct_pair;
    // Of components whose blocks have fewer samples than 64, else nullptr; and the last place these need.
    Idct shrunk[max_components];
    int limit[max_components];
};

// Where the entropy decoder is.
struct Stream {
    Bits bits{nullptr};
    const std::uint8_t* end = nullptr;  // of the segment
    int means[max_components] = {};
};

// No more MCUs in one call, so that the means cannot overflow: 4096 * 8 blocks * 32767 < 2^30.
constexpr int longest_run = 4096;

// Both stop, and give false, at the first MCU that is wrong or goes past the end of the segment.
struct RunKernels {
    bool (*skip)(Stream& stream, const Layout& layout, int count);
    // Decodes MCUs from `column` of the row of MCUs `row` into `rows`.
    bool (*decode)(Stream& stream, const Layout& layout, int column, int row, int count, RowMaker& rows);
    bool (*decode_shrunk)(Stream& stream, const Layout& layout, int column, int row, int count, RowMaker& rows);
};

const RunKernels& run_kernels(Simd simd) noexcept;

}  // namespace turbo
