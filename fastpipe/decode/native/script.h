// The order of a progressive file's scans: what each of them may send, and what was sent when the file ends.
#pragma once
#include "markers.h"

namespace turbo {

class Script {
public:
    Script() noexcept;
    // Count this scan in. Whatever libjpeg refuses or only warns of is irregular.
    Status add(const Scan& scan) noexcept;
    // libjpeg smooths an image of which the first coefficients are not exact (smoothing_ok in jdcoefct.c).
    bool complete(int components) const noexcept;

private:
    int scans_ = 0;
    signed char low_[max_components][64];  // the lowest bit that was sent; -1: none
};

}  // namespace turbo
