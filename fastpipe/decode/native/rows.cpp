#include "rows.h"

#include <algorithm>
#include <cstring>

namespace turbo {
namespace {

// Vector code reads and writes past the ends; the left margin also holds the sample beyond the edge.
constexpr int left_margin = 64, right_margin = 128;

// Samples that lines or columns [first, end) of the image need, of `size`, each of which serves `times`.
Range needed(int first, int end, int times, int size, bool fancy) {
    if (!fancy) return {first / times, std::min(size, (end - 1) / times + 1)};
    return {first == 0 ? 0 : (first - 1) >> 1, std::min(size, (end >> 1) + 1)};
}

Range blocks(Range samples, int edge) { return {samples.first / edge, (samples.end - 1) / edge + 1}; }

int divided_up(int size, int by) { return (size + by - 1) / by; }

// A component with fewer samples than the image keeps larger blocks in a smaller image, and needs no upsampling
// there, as in libjpeg (jpeg_calc_output_dimensions).
int edge_of(const Component& component, const Header& header, int unit) {
    int edge = unit;
    while (edge < 8 && header.max_h * unit % (component.h * edge * 2) == 0 &&
           header.max_v * unit % (component.v * edge * 2) == 0) {
        edge *= 2;
    }
    return edge;
}

}  // namespace

// The choice of method is that of jinit_upsampler (jdsample.c).
void RowMaker::choose_upsampling(Plane& plane) noexcept {
    const bool wide = plane.width > 2;
    if (plane.h == 1 && plane.v == 1) {
        plane.up = Up::none;
    } else if (plane.h == 2 && plane.v == 1 && wide) {
        plane.up = Up::fancy_h2v1;
    } else if (plane.h == 1 && plane.v == 2) {
        plane.up = Up::fancy_h1v2;
    } else if (plane.h == 2 && plane.v == 2 && wide) {
        plane.up = Up::fancy_h2v2;
    } else {
        plane.up = Up::replicate;
    }
}

Status RowMaker::plan(Plane& plane, const Component& component, const Header& header) noexcept {
    if (header.max_h % component.h != 0 || header.max_v % component.v != 0) return Status::sampling;
    plane.edge = edge_of(component, header, unit_);
    plane.h = header.max_h * unit_ / (component.h * plane.edge);
    plane.v = header.max_v * unit_ / (component.v * plane.edge);
    plane.width = divided_up(header.width * component.h * plane.edge, header.max_h * 8);
    plane.height = divided_up(header.height * component.v * plane.edge, header.max_v * 8);
    plane.lines = plane.edge * component.v;
    choose_upsampling(plane);
    const int right = region_.left + region_.width, bottom = region_.top + region_.height;
    const Range columns = needed(region_.left, right, plane.h, plane.width, fancy_h(plane));
    plane.columns = blocks(columns, plane.edge);
    plane.rows = blocks(needed(region_.top, bottom, plane.v, plane.height, fancy_v(plane)), plane.edge);
    plane.at_left = fancy_h(plane) && columns.first == 0;
    plane.at_right = fancy_h(plane) && columns.end == plane.width;
    plane.first_sample = region_.left / plane.h;
    plane.sample_count = (right - 1) / plane.h + 1 - plane.first_sample;
    waits_ = waits_ || fancy_v(plane);

    const Range mcus{plane.columns.first / component.h, (plane.columns.end - 1) / component.h + 1};
    const Range rows{plane.rows.first / component.v, (plane.rows.end - 1) / component.v + 1};
    mcu_columns_ = {std::min(mcu_columns_.first, mcus.first), std::max(mcu_columns_.end, mcus.end)};
    mcu_rows_ = {std::min(mcu_rows_.first, rows.first), std::max(mcu_rows_.end, rows.end)};
    return Status::done;
}

Status RowMaker::prepare(const Header& header, const Box& region, Simd simd, int shrink) noexcept {
    const int width = divided_up(header.width, shrink), height = divided_up(header.height, shrink);
    if (region.left < 0 || region.top < 0 || region.width < 1 || region.height < 1 ||
        region.left > width - region.width || region.top > height - region.height) {
        return Status::crop;
    }
    region_ = region;
    count_ = header.count;
    colour_ = header.colour;
    unit_ = 8 / shrink;
    mcu_lines_ = unit_ * header.max_v;
    waits_ = false;
    next_row_ = 0;
    kernels_ = &line_kernels(simd);
    mcu_columns_ = mcu_rows_ = {max_side, 0};
    for (int c = 0; c < count_; ++c) {
        const auto status = plan(planes_[c], header.components[c], header);
        if (status != Status::done) return status;
    }
    return allocate() ? Status::done : Status::memory;
}

bool RowMaker::allocate() noexcept {
    std::size_t total = 0;
    for (int c = 0; c < count_; ++c) {
        auto& plane = planes_[c];
        plane.stride = left_margin + plane.edge * (plane.columns.end - plane.columns.first) + right_margin;
        total += std::size_t(plane.stride) * std::size_t(plane.lines + 1);
    }
    line_room_ = std::size_t(region_.width) + 4 * std::size_t(right_margin);
    if (!samples_.reserve(total) || !lines_.reserve(line_room_ * max_components)) return false;
    std::size_t at = 0;
    for (int c = 0; c < count_; ++c) {
        auto& plane = planes_[c];
        plane.samples = samples_.data() + at + plane.stride + left_margin;
        at += std::size_t(plane.stride) * std::size_t(plane.lines + 1);
    }
    return true;
}

// libjpeg's special cases for the first and the last column are the general case with the edge sample repeated.
void RowMaker::repeat_edges(Plane& plane) noexcept {
    if (!plane.at_left && !plane.at_right) return;
    auto* samples = plane.samples;
    const std::ptrdiff_t after = plane.width - plane.edge * plane.columns.first;
    for (int y = 0; y < plane.lines; ++y, samples += plane.stride) {
        if (plane.at_left) samples[-1] = samples[0];
        if (plane.at_right) samples[after] = samples[after - 1];
    }
}

void RowMaker::finish(int mcu_row, RowSink& sink) noexcept {
    for (int c = 0; c < count_; ++c) repeat_edges(planes_[c]);
    const bool last = mcu_row + 1 >= mcu_rows_.end;
    const int ready = last ? region_.height : (mcu_row + 1) * mcu_lines_ - int(waits_) - region_.top;
    const int first = next_row_;
    for (; next_row_ < std::min(ready, region_.height); ++next_row_) {
        make_row(region_.top + next_row_, mcu_row, sink.row(next_row_));
    }
    if (next_row_ > first) sink.written(next_row_ - 1);
    if (last || !waits_) return;
    for (int c = 0; c < count_; ++c) {
        auto& plane = planes_[c];
        auto* above = plane.samples - plane.stride - left_margin;
        std::memcpy(above, above + plane.stride * plane.lines, std::size_t(plane.stride));
    }
}

void RowMaker::make_row(int y, int mcu_row, std::uint8_t* out) noexcept {
    const auto* first = upsampled(0, y, mcu_row);
    if (colour_ == Colour::grey) {
        kernels_->grey(first, region_.width, out);
        return;
    }
    const auto convert = colour_ == Colour::rgb ? kernels_->rgb : kernels_->ycc;
    const auto* second = upsampled(1, y, mcu_row);
    convert(first, second, upsampled(2, y, mcu_row), region_.width, out);
}

// Line `y` of a component, of which the line before this row of MCUs is the first that is there. The component's
// last line stands in for those behind it, its first for the one before. Gives the region's first sample.
const std::uint8_t* RowMaker::line(const Plane& plane, int y, int mcu_row) const noexcept {
    const int inside = std::max(0, std::min(y, plane.height - 1));
    const int column = plane.first_sample - plane.edge * plane.columns.first;
    return plane.samples + plane.stride * (inside - mcu_row * plane.lines) + column;
}

const std::uint8_t* RowMaker::upsampled(int component, int y, int mcu_row) noexcept {
    const auto& plane = planes_[component];
    const int nearest = y / plane.v, next = y & 1 ? nearest + 1 : nearest - 1;
    const auto* near = line(plane, nearest, mcu_row);
    auto* out = lines_.data() + line_room_ * std::size_t(component);
    switch (plane.up) {
        case Up::none: return near;
        case Up::replicate: replicate(near, plane.h, plane.sample_count, out); break;
        case Up::fancy_h2v1: kernels_->fancy_h2v1(near, plane.sample_count, out); break;
        case Up::fancy_h1v2: {
            const auto* far = line(plane, next, mcu_row);
            kernels_->fancy_h1v2(near, far, y & 1 ? 2 : 1, plane.sample_count, out);
            break;
        }
        case Up::fancy_h2v2: {
            const auto* far = line(plane, next, mcu_row);
            kernels_->fancy_h2v2(near, far, plane.sample_count, out);
            break;
        }
    }
    return out + (region_.left - plane.first_sample * plane.h);
}

}  // namespace turbo
