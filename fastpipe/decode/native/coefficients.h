// The coefficients of a progressive file's region. A block outside it needs no values: which of its coefficients
// are not zero is enough to follow the scans that refine them.
#pragma once
#include "bands.h"
#include "memory.h"
#include "rows.h"

namespace turbo {

struct CoefficientPlane {
    Range columns, rows;        // the blocks whose values are kept; scans are followed down to rows.end
    int blocks_wide;            // of the whole component, with the padding of MCUs
    std::int16_t* values;       // 64 for each block of the region in zigzag order, row by row of blocks
    Places* nonzero;            // of each block above rows.end, without place 0

    std::int16_t* block(int row, int column) const noexcept {
        const std::ptrdiff_t wide = columns.end - columns.first;
        return values + 64 * ((row - rows.first) * wide + (column - columns.first));
    }
    Places* map(int row, int column) const noexcept {
        return nonzero + std::ptrdiff_t(row) * blocks_wide + column;
    }
};

class Coefficients {
public:
    // Zeros for the blocks that `rows` needs. `file_size` bounds the memory: 1 kB for each byte of the file.
    Status prepare(const Header& header, const RowMaker& rows, std::size_t file_size) noexcept;
    const CoefficientPlane& plane(int component) const noexcept { return planes_[component]; }
    void trim() noexcept {
        values_.trim();
        nonzero_.trim();
    }

private:
    CoefficientPlane planes_[max_components]{};
    Buffer<std::int16_t> values_;
    Buffer<Places> nonzero_;
};

}  // namespace turbo
