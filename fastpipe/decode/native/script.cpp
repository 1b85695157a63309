#include "script.h"

#include <cstring>

namespace turbo {
namespace {

// Encoders write about 10. More work than that is Pillow's: a scan of some bytes can pass over all blocks.
constexpr int max_scans = 100;
constexpr int max_low = 13;    // start_pass_phuff_decoder (jdphuff.c)
constexpr int max_ac_low = 5;  // with the 10 bits of an AC coefficient that is 15
constexpr int smoothed = 9;    // AC coefficients that libjpeg guesses; 5 before 2.1

}  // namespace

Script::Script() noexcept { std::memset(low_, -1, sizeof low_); }

Status Script::add(const Scan& scan) noexcept {
    if (++scans_ > max_scans) return Status::irregular;
    const bool dc = scan.first == 0;
    if (dc ? scan.last != 0 : scan.last < scan.first || scan.last > 63 || scan.count != 1) return Status::irregular;
    if (scan.low > (dc ? max_low : max_ac_low)) return Status::irregular;
    if (scan.high != 0 && scan.low != scan.high - 1) return Status::irregular;
    for (int i = 0; i < scan.count; ++i) {
        auto* low = low_[scan.component[i]];
        if (!dc && low[0] < 0) return Status::irregular;
        for (int k = scan.first; k <= scan.last; ++k) {
            if (low[k] != (scan.high == 0 ? -1 : scan.high)) return Status::irregular;
            low[k] = static_cast<signed char>(scan.low);
        }
    }
    return Status::done;
}

bool Script::complete(int components) const noexcept {
    for (int c = 0; c < components; ++c) {
        for (int k = 0; k <= smoothed; ++k) {
            if (low_[c][k] != 0) return false;
        }
    }
    return true;
}

}  // namespace turbo
