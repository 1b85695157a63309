#include <algorithm>
#include <cstring>

#include "methods.h"

namespace turbo {

bool RowsFirst::prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept {
    set(horizontal, vertical, passes);
    next_ = 0;
    stride_ = arriving_stride();
    made_stride_ = result_stride();
    // Rows that are needed are moved to the start when the room is full: as rarely as there are taps.
    const std::int64_t room = 4 * std::int64_t(vertical.pairs()) + 2 * kRowsAhead;
    room_ = int(std::min<std::int64_t>(room, vertical.length()));
    return reserve(arriving_, stride_, std::size_t(room_) + 1) && reserve(between_, stride_, 2) &&
           reserve(made_, made_stride_, std::size_t(vertical.num()));
}

std::uint8_t* RowsFirst::row(int y) noexcept {
    const bool holds_all = room_ == vertical_->length();
    if (!holds_all && done_ == asked_ && y - base_ + kRowsAhead > room_) forget();
    if (y >= asked_) asked_ = y + 1;
    return arriving_.data() + stride_ * std::size_t(y - base_);
}

// Drop the rows that no later output needs.
void RowsFirst::forget() noexcept {
    const int first = next_ < vertical_->num() ? std::min(vertical_->vector_firsts()[next_], done_) : done_;
    if (first == base_) return;
    std::memmove(arriving_.data(), arriving_.data() + stride_ * std::size_t(first - base_),
                 stride_ * std::size_t(done_ - first));
    base_ = first;
}

void RowsFirst::written(int y) noexcept {
    done_ = y + 1;
    for (; next_ < vertical_->num() && is_ready(next_); ++next_) make(next_);
}

bool RowsFirst::is_ready(int output) const noexcept {
    const int behind = vertical_->vector_firsts()[output] + 2 * vertical_->pairs();
    return behind <= done_ || done_ == vertical_->length();
}

void RowsFirst::make(int output) noexcept {
    const bool second = output % 2 == 1;
    passes_.vertical(*vertical_, output, arriving_.data(), base_, std::ptrdiff_t(stride_),
                     4 * horizontal_->length(), between(second));
    if (!second && output + 1 < vertical_->num()) return;
    const std::uint8_t* const rows[] = {between(0), between(second)};
    std::uint8_t* const out[] = {made(output - int(second)), made(output)};
    passes_.horizontal(*horizontal_, rows, out);
}

void RowsFirst::finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept {
    const std::size_t size = std::size_t(3) * std::size_t(horizontal_->num());
    for (int i = 0; i < vertical_->num(); ++i) std::memcpy(target + stride * i, made(i), size);
}

}  // namespace turbo
