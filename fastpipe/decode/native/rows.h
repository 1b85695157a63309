// From samples of the components to RGBX rows of a region, one row of MCUs at a time.
#pragma once
#include "lines.h"
#include "markers.h"
#include "memory.h"

namespace turbo {

struct Range {
    int first, end;
    bool has(int i) const noexcept { return i >= first && i < end; }
};

// Holds the samples of one row of MCUs and the last line of the row above. Use:
//   prepare(header, region); for each row in mcu_rows(): write blocks at block(), then finish(row).
// Only blocks in block_columns() and block_rows() need to be written.
class RowMaker {
public:
    void trim() noexcept {
        samples_.trim();
        lines_.trim();
    }
    // `region` lies inside the image. Status::sampling where libjpeg would upsample in another way.
    // `shrink` 2, 4 or 8: the region is one of the image whose blocks become smaller by that.
    Status prepare(const Header& header, const Box& region, Simd simd, int shrink) noexcept;

    Range mcu_columns() const noexcept { return mcu_columns_; }
    Range mcu_rows() const noexcept { return mcu_rows_; }
    // In blocks of the component's whole plane.
    Range block_columns(int component) const noexcept { return planes_[component].columns; }
    Range block_rows(int component) const noexcept { return planes_[component].rows; }

    // Where the block goes that is in column `column` of the component's whole plane and in row `row` of this MCU
    // row, 0 <= row < v.
    std::uint8_t* block(int component, int column, int row) noexcept {
        auto& plane = planes_[component];
        return plane.samples + plane.stride * (row * plane.edge) + (column - plane.columns.first) * plane.edge;
    }
    // Samples along a block's side: 8, or fewer in a smaller image.
    int edge(int component) const noexcept { return planes_[component].edge; }
    std::ptrdiff_t stride(int component) const noexcept { return planes_[component].stride; }

    void finish(int mcu_row, RowSink& sink) noexcept;

private:
    enum class Up : std::uint8_t { none, replicate, fancy_h2v1, fancy_h1v2, fancy_h2v2 };
    struct Plane {
        Up up;
        int edge;                // of a block, in samples
        int h, v;                // columns and lines of the image for each sample
        int width, height;       // of the whole component, in samples
        Range columns, rows;     // blocks that the region needs
        int first_sample;        // the first column of samples that the region needs, without neighbours
        int sample_count;
        int lines;               // of one row of MCUs
        std::ptrdiff_t stride;
        std::uint8_t* samples;   // of the current row of MCUs; the line above it is the last of the row before
        bool at_left, at_right;  // the region needs a sample beyond the component's edge
    };
    Status plan(Plane& plane, const Component& component, const Header& header) noexcept;
    void choose_upsampling(Plane& plane) noexcept;
    bool allocate() noexcept;
    void repeat_edges(Plane& plane) noexcept;
    void make_row(int y, int mcu_row, std::uint8_t* out) noexcept;
    const std::uint8_t* line(const Plane& plane, int y, int mcu_row) const noexcept;
    const std::uint8_t* upsampled(int component, int y, int mcu_row) noexcept;
    bool fancy_v(const Plane& plane) const noexcept {
        return plane.up == Up::fancy_h1v2 || plane.up == Up::fancy_h2v2;
    }
    bool fancy_h(const Plane& plane) const noexcept {
        return plane.up == Up::fancy_h2v1 || plane.up == Up::fancy_h2v2;
    }

    Box region_{};
    int count_ = 0, mcu_lines_ = 8;
    int unit_ = 8;                // 8 / shrink: pixels along a block of the component with the most samples
    bool waits_ = false;          // the last line of a row of MCUs needs the row below
    Colour colour_ = Colour::grey;
    const LineKernels* kernels_ = nullptr;
    Range mcu_columns_{}, mcu_rows_{};
    int next_row_ = 0;            // of the region, the next to be made
    Plane planes_[max_components]{};
    Buffer<std::uint8_t> samples_, lines_;
    std::size_t line_room_ = 0;   // of one upsampled line
};

}  // namespace turbo
