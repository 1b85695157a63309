// The entropy-coded data of one scan: unstuffed, cut at the restart markers.
#pragma once
#include "markers.h"
#include "memory.h"

namespace turbo {

// Zeros behind the last segment. Between two checks of the end a decoder reads at most one MCU: 10 blocks of at
// most 64 symbols of 16 + 15 bits are 2480 bytes; and eight more.
constexpr std::size_t scan_padding = 4096;

class ScanData {
public:
    // Read from `position` to the first marker that is no restart marker. There must be one restart marker after
    // each `restart_interval` of the scan's `mcus` (0: none), and their numbers must be in order.
    Status read(Bytes file, std::size_t position, int restart_interval, std::int64_t mcus) noexcept;
    void trim() noexcept { bytes_.trim(); }
    std::size_t file_end() const noexcept { return file_end_; }  // where that marker is
    int marker() const noexcept { return marker_; }              // its second byte

    int segments() const noexcept { return segments_; }          // at least 1
    const std::uint8_t* begin(int segment) const noexcept { return bytes_.data() + starts_[std::size_t(segment)]; }
    const std::uint8_t* end(int segment) const noexcept {
        return bytes_.data() + starts_[std::size_t(segment) + 1];
    }

private:
    Buffer<std::uint8_t> bytes_;
    Buffer<std::size_t> starts_;
    int segments_ = 0;
    std::size_t file_end_ = 0;
    int marker_ = 0;
};

}  // namespace turbo
