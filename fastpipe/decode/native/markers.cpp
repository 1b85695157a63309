#include "markers.h"

#include <algorithm>

#include "segment.h"

namespace turbo {

const std::uint8_t zigzag[64 + 16] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,
    6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31,
    39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

namespace {

int divide_up(int a, int b) { return (a + b - 1) / b; }

}  // namespace

Status Markers::open(Bytes bytes, const Limits& limits) noexcept {
    bytes_ = bytes;
    limits_ = limits;
    header_ = Header{};
    has_frame_ = has_jfif_ = has_adobe_ = false;
    adobe_transform_ = 0;
    // Pillow wants the third byte too.
    if (bytes.size < 4 || bytes.data[0] != 0xFF || bytes.data[1] != SOI || bytes.data[2] != 0xFF) {
        return Status::not_jpeg;
    }
    position_ = 2;
    bool at_end = false;
    const auto status = until_scan(at_end);
    return status == Status::done && at_end ? Status::irregular : status;
}

Status Markers::next_scan(std::size_t position, bool& at_end) noexcept {
    position_ = position;
    return until_scan(at_end);
}

Status Markers::until_scan(bool& at_end) noexcept {
    at_end = false;
    const auto* data = bytes_.data;
    for (;;) {
        if (bytes_.size - position_ < 2) return Status::truncated;
        // libjpeg skips bytes that are no marker, and says so.
        if (data[position_] != 0xFF) return Status::irregular;
        while (position_ < bytes_.size && data[position_] == 0xFF) ++position_;
        if (position_ == bytes_.size) return Status::truncated;
        const int marker = data[position_++];
        if (marker == EOI) {
            at_end = true;
            return Status::done;
        }
        if (marker < SOF0 || (marker >= RST0 && marker <= SOI)) return Status::irregular;
        if (bytes_.size - position_ < 2) return Status::truncated;
        const std::size_t length = std::size_t(data[position_]) << 8 | data[position_ + 1];
        if (length < 2) return Status::irregular;
        if (bytes_.size - position_ < length) return Status::truncated;
        const Segment content{data + position_ + 2, length - 2};
        position_ += length;
        const auto status = segment(marker, content);
        if (status != Status::done || marker == SOS) return status;
    }
}

Status Markers::segment(int marker, const Segment& content) noexcept {
    switch (marker) {
        case DHT: return huffman_tables(content);
        case DQT: return quant_tables(content);
        case SOS: return scan(content);
        case COM: return Status::done;
        case DAC: return Status::process;
        case DRI:
            if (content.size != 2) return Status::irregular;
            header_.restart_interval = content.word(0);
            return Status::done;
        default: break;
    }
    if (marker >= SOF0 && marker <= SOF15) return frame(marker, content);
    if (marker >= APP0 && marker <= APP15) return application(marker, content);
    return Status::irregular;
}

Status Markers::frame(int marker, const Segment& content) noexcept {
    if (marker > SOF2) return Status::process;
    if (has_frame_ || content.size < 6) return Status::irregular;
    const int count = content.data[5];
    if (content.size != std::size_t(6) + 3 * count) return Status::irregular;
    if (content.data[0] != 8) return Status::process;
    if (count != 1 && count != 3) return Status::components;
    header_.process = marker == SOF2 ? Process::progressive : Process::baseline;
    header_.height = content.word(1);
    header_.width = content.word(3);
    header_.count = count;
    for (int c = 0; c < count; ++c) {
        const auto* entry = content.data + 6 + 3 * c;
        auto& component = header_.components[c];
        component = Component{};
        component.id = entry[0];
        component.h = entry[1] >> 4;
        component.v = entry[1] & 15;
        component.quant = entry[2];
    }
    has_frame_ = true;
    return geometry();
}

Status Markers::geometry() noexcept {
    auto& h = header_;
    if (h.width < 1 || h.height < 1 || h.width > max_side || h.height > max_side) return Status::irregular;
    if (std::int64_t(h.width) * h.height > limits_.pixels) return Status::too_large;
    h.max_h = h.max_v = 1;
    for (int c = 0; c < h.count; ++c) {
        auto& component = h.components[c];
        if (component.h < 1 || component.h > 4 || component.v < 1 || component.v > 4) return Status::irregular;
        if (component.quant > 3) return Status::irregular;
        for (int other = 0; other < c; ++other) {
            if (h.components[other].id == component.id) return Status::irregular;
        }
        // One component has no MCU of several blocks, whatever its factors are.
        if (h.count == 1) component.h = component.v = 1;
        h.max_h = std::max(h.max_h, component.h);
        h.max_v = std::max(h.max_v, component.v);
    }
    h.mcus_wide = divide_up(h.width, 8 * h.max_h);
    h.mcus_high = divide_up(h.height, 8 * h.max_v);
    for (int c = 0; c < h.count; ++c) {
        auto& component = h.components[c];
        component.width = divide_up(h.width * component.h, h.max_h);
        component.height = divide_up(h.height * component.v, h.max_v);
        component.blocks_wide = divide_up(component.width, 8);
        component.blocks_high = divide_up(component.height, 8);
    }
    return Status::done;
}

Status Markers::quant_tables(const Segment& content) noexcept {
    std::size_t at = 0;
    while (at < content.size) {
        const int wide = content.data[at] >> 4, which = content.data[at] & 15;
        ++at;
        const std::size_t size = wide ? 128 : 64;
        if (wide > 1 || which > 3 || content.size - at < size) return Status::irregular;
        auto& table = header_.quant[which];
        table.present = true;
        for (int k = 0; k < 64; ++k) {
            table.values[zigzag[k]] =
                std::uint16_t(wide ? content.word(at + 2 * std::size_t(k)) : content.data[at + std::size_t(k)]);
        }
        at += size;
    }
    return Status::done;
}

Status Markers::huffman_tables(const Segment& content) noexcept {
    std::size_t at = 0;
    while (at < content.size) {
        if (content.size - at < 17) return Status::irregular;
        const int kind = content.data[at] >> 4, which = content.data[at] & 15;
        if (kind > 1 || which > 3) return Status::irregular;
        std::uint8_t counts[16];  // copied before they are added: the caller's memory may change meanwhile
        std::memcpy(counts, content.data + at + 1, 16);
        int total = 0;
        for (int i = 0; i < 16; ++i) total += counts[i];
        at += 17;
        if (total > 256 || std::size_t(total) > content.size - at) return Status::irregular;
        auto& spec = (kind ? header_.ac : header_.dc)[which];
        spec.present = true;
        spec.size = total;
        std::memcpy(spec.counts, counts, 16);
        std::memset(spec.values, 0, sizeof spec.values);
        std::memcpy(spec.values, content.data + at, std::size_t(total));
        at += std::size_t(total);
    }
    return Status::done;
}

Status Markers::scan(const Segment& content) noexcept {
    if (!has_frame_ || content.size < 4) return Status::irregular;
    Scan made{};
    made.count = content.data[0];
    if (made.count < 1 || made.count > header_.count) return Status::irregular;
    if (content.size != std::size_t(4) + 2 * made.count) return Status::irregular;
    int blocks = 0, from = 0;
    for (int i = 0; i < made.count; ++i) {
        const int id = content.data[1 + 2 * i], tables = content.data[2 + 2 * i];
        int c = from;
        while (c < header_.count && header_.components[c].id != id) ++c;
        if (c == header_.count) return Status::irregular;
        from = c + 1;
        made.component[i] = c;
        made.dc[i] = tables >> 4;
        made.ac[i] = tables & 15;
        if (made.dc[i] > 3 || made.ac[i] > 3) return Status::irregular;
        blocks += header_.components[c].h * header_.components[c].v;
    }
    if (made.count > 1 && blocks > max_blocks_in_mcu) return Status::irregular;
    const auto* rest = content.data + 1 + 2 * made.count;
    made.first = rest[0];
    made.last = rest[1];
    made.high = rest[2] >> 4;
    made.low = rest[2] & 15;
    header_.scan = made;
    choose_colour();
    return Status::done;
}

}  // namespace turbo
