#include "coefficients.h"

#include <cstring>

namespace turbo {

Status Coefficients::prepare(const Header& header, const RowMaker& rows, std::size_t file_size) noexcept {
    std::size_t all = 0, kept[max_components], above[max_components], values = 0, maps = 0;
    for (int c = 0; c < header.count; ++c) {
        const auto& component = header.components[c];
        auto& plane = planes_[c];
        plane.columns = rows.block_columns(c);
        plane.rows = rows.block_rows(c);
        plane.blocks_wide = header.mcus_wide * component.h;
        kept[c] = std::size_t(plane.columns.end - plane.columns.first) * std::size_t(plane.rows.end - plane.rows.first);
        above[c] = std::size_t(plane.blocks_wide) * std::size_t(plane.rows.end);
        values += kept[c];
        maps += above[c];
        all += std::size_t(component.blocks_wide) * std::size_t(component.blocks_high);
    }
    // The first scan of a component has at least one bit for each block.
    if (all / 8 > file_size) return Status::irregular;
    if (!values_.reserve(64 * values) || !nonzero_.reserve(maps)) return Status::memory;
    std::memset(values_.data(), 0, 64 * values * sizeof(std::int16_t));
    std::memset(nonzero_.data(), 0, maps * sizeof(std::uint64_t));
    auto* value = values_.data();
    auto* map = nonzero_.data();
    for (int c = 0; c < header.count; ++c) {
        planes_[c].values = value;
        planes_[c].nonzero = map;
        value += 64 * kept[c];
        map += above[c];
    }
    return Status::done;
}

}  // namespace turbo
