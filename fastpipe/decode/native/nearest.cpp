#include <cstring>

#include "methods.h"

namespace turbo {

bool Nearest::prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept {
    set(horizontal, vertical, passes);
    next_ = 0;
    stride_ = result_stride();
    return prepare_ring() && reserve(made_, stride_, std::size_t(vertical.num()));
}

void Nearest::written(int y) noexcept {
    for (; done_ <= y; ++done_) {
        for (; next_ < vertical_->num() && vertical_->first(next_) == done_; ++next_) {
            const std::uint8_t* const in = arrived(done_);
            std::uint8_t* out = made_.data() + stride_ * std::size_t(next_);
            // The fourth byte is overwritten by the next pixel, or lies in the row's slack.
            for (int i = 0; i < horizontal_->num(); ++i, out += 3) {
                std::memcpy(out, in + std::size_t(4) * horizontal_->first(i), 4);
            }
        }
    }
}

void Nearest::finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept {
    const std::size_t size = std::size_t(3) * std::size_t(horizontal_->num());
    for (int i = 0; i < vertical_->num(); ++i) std::memcpy(target + stride * i, made_.data() + stride_ * std::size_t(i), size);
}

}  // namespace turbo
