#include "methods.h"

namespace turbo {

bool Ring::prepare_ring() noexcept {
    stride_ = arriving_stride();
    return reserve(ring_, stride_, kRowsAhead);
}

std::uint8_t* Ring::row(int y) noexcept {
    if (done_ == asked_) base_ = done_;
    if (y >= asked_) asked_ = y + 1;
    return ring_.data() + place(y);
}

}  // namespace turbo
