#include "progressive.h"

#include <algorithm>

#include "bands.h"
#include "idct.h"
#include "script.h"

namespace turbo {
namespace {

// One progressive image on its way through the scans.
class Progressive {
public:
    Progressive(Workshop& shop, Bytes file, Simd simd) noexcept
        : shop_(shop), markers_(shop.markers), file_(file), simd_(simd), readers_(band_readers(simd)) {}

    Status decode(const View& view, RowSink& sink) noexcept;

private:
    Status read_scans() noexcept;
    Status read_scan() noexcept;
    Status take_tables() noexcept;
    Status segment(std::int64_t first, std::int64_t end, BandStream& stream) noexcept;
    bool dc_units(BandStream& stream, int row, int column, int count) noexcept;
    bool dc_block(BandStream& stream, int i, int row, int column) noexcept;
    bool ac_blocks(BandStream& stream, int row, int column, int count) noexcept;
    void transform(RowSink& sink) noexcept;

    const Header& header() const noexcept { return markers_.header(); }
    const Scan& scan() const noexcept { return markers_.header().scan; }

    Workshop& shop_;
    Markers markers_;  // the workshop's stay at the first scan, for another region
    const Bytes file_;
    const Simd simd_;
    const BandReaders readers_;
    Script script_;
    std::uint16_t quant_[max_components][64] = {};
    bool has_quant_[max_components] = {};

    // The current scan: its units are blocks of one component, or MCUs.
    const Huffman* tables_[max_components] = {};
    int units_wide_ = 0, units_high_ = 0;
    int rows_needed_ = 0;  // of units
};

Status Progressive::decode(const View& view, RowSink& sink) noexcept {
    auto status = shop_.rows.prepare(header(), view.region, simd_, view.shrink);
    if (status != Status::done) return status;
    status = shop_.coefficients.prepare(header(), shop_.rows, file_.size);
    if (status != Status::done) return status;
    status = read_scans();
    if (status != Status::done) return status;
    if (!script_.complete(header().count)) return Status::incomplete;
    transform(sink);
    return Status::done;
}

Status Progressive::read_scans() noexcept {
    for (bool at_end = false; !at_end;) {
        auto status = script_.add(scan());
        if (status == Status::done) status = take_tables();
        if (status == Status::done) status = read_scan();
        if (status == Status::done) status = markers_.next_scan(shop_.scan.file_end(), at_end);
        if (status != Status::done) return status;
    }
    return Status::done;
}

// Tables may be redefined between scans. The quantisation that counts is that of a component's first scan
// (latch_quant_tables in jdinput.c).
Status Progressive::take_tables() noexcept {
    const auto& h = header();
    const auto& s = scan();
    for (int i = 0; i < s.count; ++i) {
        const int c = s.component[i];
        const auto& quant = h.quant[h.components[c].quant];
        if (!has_quant_[c]) {
            if (!quant.present) return Status::irregular;
            std::copy(quant.values, quant.values + 64, quant_[c]);
            has_quant_[c] = true;
        }
        tables_[i] = nullptr;
        if (s.first == 0 && s.high != 0) continue;  // plain bits
        tables_[i] = s.first == 0 ? shop_.tables.find(h.dc[s.dc[i]], true, false)
                                  : shop_.tables.find(h.ac[s.ac[i]], false, false);
        if (!tables_[i]) return Status::irregular;
    }
    return Status::done;
}

Status Progressive::read_scan() noexcept {
    const auto& h = header();
    const auto& only = h.components[scan().component[0]];
    const bool single = scan().count == 1;
    units_wide_ = single ? only.blocks_wide : h.mcus_wide;
    units_high_ = single ? only.blocks_high : h.mcus_high;
    const int needed = single ? shop_.coefficients.plane(scan().component[0]).rows.end : shop_.rows.mcu_rows().end;
    rows_needed_ = std::min(needed, units_high_);
    const auto units = std::int64_t(units_wide_) * units_high_;
    const auto status = shop_.scan.read(file_, markers_.scan_data(), h.restart_interval, units);
    if (status != Status::done) return status;
    const auto interval = h.restart_interval ? std::int64_t(h.restart_interval) : units;
    const auto last = std::int64_t(units_wide_) * rows_needed_;
    // What lies below the region is not read: no later scan needs it.
    for (int i = 0; i < shop_.scan.segments() && i * interval < last; ++i) {
        BandStream stream(shop_.scan.begin(i), shop_.scan.end(i));
        const auto read = segment(i * interval, std::min((i + 1) * interval, last), stream);
        if (read != Status::done) return read;
    }
    return Status::done;
}

// The units from `first` to `end`, of which a restart marker is at most at both ends.
Status Progressive::segment(std::int64_t first, std::int64_t end, BandStream& stream) noexcept {
    while (first < end) {
        const int row = int(first / units_wide_), column = int(first % units_wide_);
        const int count = int(std::min<std::int64_t>(units_wide_ - column, end - first));
        const bool read = scan().first == 0 ? dc_units(stream, row, column, count)
                                            : ac_blocks(stream, row, column, count);
        if (!read) return Status::irregular;
        first += count;
    }
    return Status::done;
}

bool Progressive::dc_units(BandStream& stream, int row, int column, int count) noexcept {
    const auto& s = scan();
    for (int x = column; x < column + count; ++x) {
        if (s.count == 1) {
            if (!dc_block(stream, 0, row, x)) return false;
        } else {
            for (int i = 0; i < s.count; ++i) {
                const auto& component = header().components[s.component[i]];
                for (int v = 0; v < component.v; ++v) {
                    for (int h = 0; h < component.h; ++h) {
                        if (!dc_block(stream, i, row * component.v + v, x * component.h + h)) return false;
                    }
                }
            }
        }
        if (!stream.bits.ends_within(stream.end)) return false;
    }
    return true;
}

bool Progressive::dc_block(BandStream& stream, int i, int row, int column) noexcept {
    const auto& s = scan();
    const auto& plane = shop_.coefficients.plane(s.component[i]);
    const bool keeps = plane.rows.has(row) && plane.columns.has(column);
    if (s.high != 0) {
        stream.bits.fill();
        const auto bit = stream.bits.take(1) << s.low;
        if (keeps) *plane.block(row, column) = std::int16_t(*plane.block(row, column) | int(bit));
        return true;
    }
    std::int16_t value;
    if (!read_dc(stream, *tables_[i], i, s.low, value)) return false;
    if (keeps) *plane.block(row, column) = value;
    return true;
}

bool Progressive::ac_blocks(BandStream& stream, int row, int column, int count) noexcept {
    const auto& s = scan();
    const auto& plane = shop_.coefficients.plane(s.component[0]);
    const Band band{tables_[0], s.first, s.last, s.low};
    const auto read = s.high ? readers_.refine : readers_.first;
    const int end = column + count;
    // Left of the region, in it, right of it.
    const bool in = plane.rows.has(row);
    const int left = in ? std::min(std::max(plane.columns.first, column), end) : end;
    const int right = in ? std::max(left, std::min(plane.columns.end, end)) : end;
    auto* maps = plane.map(row, 0);
    if (left > column && !read(stream, band, left - column, maps + column, nullptr)) return false;
    if (right > left && !read(stream, band, right - left, maps + left, plane.block(row, left))) return false;
    return end == right || read(stream, band, end - right, maps + right, nullptr);
}

void Progressive::transform(RowSink& sink) noexcept {
    const auto mcu_rows = shop_.rows.mcu_rows();
    for (int mcu_row = mcu_rows.first; mcu_row < mcu_rows.end; ++mcu_row) {
        for (int c = 0; c < header().count; ++c) {
            const auto& plane = shop_.coefficients.plane(c);
            const auto idct = shop_.rows.edge(c) == 8 ? idct_for(simd_) : idct_shrunk_for(shop_.rows.edge(c), simd_);
            for (int v = 0; v < header().components[c].v; ++v) {
                const int row = mcu_row * header().components[c].v + v;
                if (!plane.rows.has(row)) continue;
                for (int x = plane.columns.first; x < plane.columns.end; ++x) {
                    const int last = 63 - __builtin_ctzll(*plane.map(row, x) | top_place);
                    alignas(32) std::int16_t block[64] = {};
                    const auto* values = plane.block(row, x);
                    for (int k = 0; k <= last; ++k) block[zigzag[k]] = values[k];
                    idct(block, quant_[c], last, shop_.rows.block(c, x, v), shop_.rows.stride(c));
                }
            }
        }
        shop_.rows.finish(mcu_row, sink);
    }
}

}  // namespace

Status decode_progressive(Workshop& workshop, Bytes file, const View& view, RowSink& sink) noexcept {
    return Progressive(workshop, file, view.simd).decode(view, sink);
}

}  // namespace turbo
