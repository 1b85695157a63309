#include <cstring>

#include "methods.h"

namespace turbo {

bool ColumnsFirst::prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept {
    set(horizontal, vertical, passes);
    stride_ = result_stride();
    // One row more: the second of a pair whose weight is zero.
    return prepare_ring() && reserve(middle_, stride_, std::size_t(vertical.length()) + 1);
}

void ColumnsFirst::written(int y) noexcept {
    for (; done_ < y; done_ += 2) take(done_, 2);
    // The last of an odd number waits for its neighbour: two rows share their weights.
    if (done_ == y && y + 1 == vertical_->length()) take(done_++, 1);
}

// Rows y and, with `count` 2, y + 1.
void ColumnsFirst::take(int y, int count) noexcept {
    const int last = y + count - 1;
    if (horizontal_->copies()) {
        for (int row = y; row <= last; ++row) passes_.pack(arrived(row), horizontal_->num(), middle(row));
        return;
    }
    const std::uint8_t* const in[] = {arrived(y), arrived(last)};
    std::uint8_t* const out[] = {middle(y), middle(last)};
    passes_.horizontal(*horizontal_, in, out);
}

void ColumnsFirst::finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept {
    const int size = 3 * horizontal_->num();
    for (int i = 0; i < vertical_->num(); ++i) {
        std::uint8_t* const row = target + stride * i;
        if (vertical_->copies()) {
            std::memcpy(row, middle(i), std::size_t(size));
        } else {
            passes_.vertical(*vertical_, i, middle_.data(), 0, std::ptrdiff_t(stride_), size, row);
        }
    }
}

}  // namespace turbo
