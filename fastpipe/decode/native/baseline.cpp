#include "baseline.h"

#include <algorithm>

#include "runs.h"

namespace turbo {
namespace {

class Baseline {
public:
    Baseline(Workshop& shop, Simd simd)
        : shop_(shop), simd_(simd), header_(shop.markers.header()), kernels_(run_kernels(simd)) {
        layout_.idct = idct_for(simd);
        layout_.idct_pair = idct_pair_for(simd);
    }
    Status lay_out() noexcept;
    Status read(Bytes file) noexcept;
    Status run(RowSink& sink) noexcept;

private:
    Status component(int c) noexcept;
    void open_segment(int segment) noexcept;
    template <class Kernel>
    bool advance(std::int64_t count, Kernel kernel) noexcept;
    bool seek(std::int64_t mcu) noexcept;

    Workshop& shop_;
    const Simd simd_;
    const Header& header_;
    const RunKernels& kernels_;
    Layout layout_{};
    Stream stream_;
    std::int64_t position_ = 0;      // of the next MCU
    std::int64_t segment_mcus_ = 0;  // in a segment
    std::int64_t segment_end_ = 0;   // the first MCU behind the open segment
};

Status Baseline::component(int c) noexcept {
    const auto& component = header_.components[c];
    const auto& quant = header_.quant[component.quant];
    const auto& scan = header_.scan;
    const auto* dc = shop_.tables.find(header_.dc[scan.dc[c]], true, false);
    const auto* ac = shop_.tables.find(header_.ac[scan.ac[c]], false, true);
    // Motion JPEG leaves the tables out, and libjpeg puts its own.
    if (!quant.present || !dc || !ac) return Status::irregular;
    std::copy(quant.values, quant.values + 64, layout_.quant[c]);
    layout_.h[c] = component.h;
    layout_.v[c] = component.v;
    for (int row = 0; row < component.v; ++row) {
        for (int column = 0; column < component.h; ++column) {
            if (layout_.count == max_blocks_in_mcu) return Status::irregular;
            layout_.places[layout_.count++] = {c, column, row, dc, ac};
        }
    }
    return Status::done;
}

Status Baseline::lay_out() noexcept {
    const auto& scan = header_.scan;
    if (scan.count != header_.count) return Status::scans;
    if (scan.first != 0 || scan.last != 63 || scan.high != 0 || scan.low != 0) return Status::irregular;
    for (int c = 0; c < header_.count; ++c) {
        const auto status = component(c);
        if (status != Status::done) return status;
    }
    return Status::done;
}

Status Baseline::read(Bytes file) noexcept {
    const std::int64_t mcus = std::int64_t(header_.mcus_wide) * header_.mcus_high;
    const auto status = shop_.scan.read(file, shop_.markers.scan_data(), header_.restart_interval, mcus);
    if (status != Status::done) return status;
    segment_mcus_ = header_.restart_interval ? header_.restart_interval : mcus;
    return shop_.scan.marker() == 0xD9 ? Status::done : Status::irregular;
}

void Baseline::open_segment(int segment) noexcept {
    stream_ = Stream{};
    stream_.bits = Bits(shop_.scan.begin(segment));
    stream_.end = shop_.scan.end(segment);
    position_ = segment * segment_mcus_;
    segment_end_ = position_ + segment_mcus_;
}

// Runs the kernel over `count` MCUs, segment by segment.
template <class Kernel>
bool Baseline::advance(std::int64_t count, Kernel kernel) noexcept {
    while (count > 0) {
        if (position_ == segment_end_) open_segment(int(position_ / segment_mcus_));
        const auto run = int(std::min<std::int64_t>({count, segment_end_ - position_, longest_run}));
        if (!kernel(run)) return false;
        for (const int mean : stream_.means) {
            if (mean < -(1 << 30) || mean > 1 << 30) return false;
        }
        position_ += run;
        count -= run;
    }
    return true;
}

// Data before a restart marker say nothing about those behind it.
bool Baseline::seek(std::int64_t mcu) noexcept {
    if (mcu >= segment_end_) open_segment(int(mcu / segment_mcus_));
    return advance(mcu - position_, [this](int count) { return kernels_.skip(stream_, layout_, count); });
}

Status Baseline::run(RowSink& sink) noexcept {
    auto& rows = shop_.rows;
    bool shrinks = false;
    for (int c = 0; c < header_.count; ++c) {
        const int edge = rows.edge(c);
        layout_.shrunk[c] = edge == 8 ? nullptr : idct_shrunk_for(edge, simd_);
        layout_.limit[c] = edge == 4 ? 24 : edge == 2 ? 4 : 0;  // where zigzag order reaches the corner
        shrinks = shrinks || edge != 8;
    }
    const auto decode = shrinks ? kernels_.decode_shrunk : kernels_.decode;
    const Range columns = rows.mcu_columns(), range = rows.mcu_rows();
    for (int row = range.first; row < range.end; ++row) {
        if (!seek(std::int64_t(row) * header_.mcus_wide + columns.first)) return Status::irregular;
        int column = columns.first;
        const bool done = advance(columns.end - columns.first, [&](int count) {
            const int from = column;
            column += count;
            return decode(stream_, layout_, from, row, count, rows);
        });
        if (!done) return Status::irregular;
        rows.finish(row, sink);
    }
    return Status::done;
}

}  // namespace

Status decode_baseline(Workshop& workshop, Bytes file, const View& view, RowSink& sink) noexcept {
    Baseline baseline(workshop, view.simd);
    auto status = baseline.lay_out();
    if (status == Status::done) {
        status = workshop.rows.prepare(workshop.markers.header(), view.region, view.simd, view.shrink);
    }
    if (status == Status::done) status = baseline.read(file);
    return status == Status::done ? baseline.run(sink) : status;
}

}  // namespace turbo
