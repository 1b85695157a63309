#include "scan.h"

#include <cstring>

namespace turbo {

Status ScanData::read(Bytes file, std::size_t position, int restart_interval, std::int64_t mcus) noexcept {
    if (position >= file.size) return Status::truncated;
    const auto* from = file.data + position;
    const auto* const end = file.data + file.size;
    const std::int64_t wanted = restart_interval ? (mcus + restart_interval - 1) / restart_interval : 1;
    if (std::size_t(wanted) > std::size_t(end - from)) return Status::irregular;
    if (!bytes_.reserve(std::size_t(end - from) + scan_padding)) return Status::memory;
    if (!starts_.reserve(std::size_t(wanted) + 1)) return Status::memory;
    auto* to = bytes_.data();
    segments_ = 0;
    starts_[0] = 0;
    for (;;) {
        const auto* mark = static_cast<const std::uint8_t*>(std::memchr(from, 0xFF, std::size_t(end - from)));
        if (!mark) return Status::truncated;
        std::memcpy(to, from, std::size_t(mark - from));
        to += mark - from;
        const auto* after = mark + 1;
        while (after < end && *after == 0xFF) ++after;  // fill bytes, before a marker only
        if (after == end) return Status::truncated;
        from = after + 1;
        if (*after == 0) {
            if (after != mark + 1) return Status::irregular;
            *to++ = 0xFF;
            continue;
        }
        starts_[std::size_t(++segments_)] = std::size_t(to - bytes_.data());
        if (*after >= 0xD0 && *after <= 0xD7) {
            if (segments_ >= wanted || *after != 0xD0 + ((segments_ - 1) & 7)) return Status::irregular;
            continue;
        }
        if (segments_ != wanted) return Status::irregular;
        file_end_ = std::size_t(mark - file.data);
        marker_ = *after;
        std::memset(to, 0, scan_padding);
        return Status::done;
    }
}

}  // namespace turbo
