#include "resizer.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "axis.h"
#include "passes.h"

namespace turbo {

namespace {

constexpr std::size_t kMostMemory = std::size_t(1) << 30;

std::size_t rounded(std::size_t size) { return (size + 63) & ~std::size_t(63); }

}  // namespace

struct Resizer::State {
    Axes columns, rows;
    const Axis* horizontal = nullptr;
    const Axis* vertical = nullptr;
    Filter filter = Filter::nearest;
    Passes passes = kScalarPasses;

    // Rows as they arrive, RGBX, in turn: row y lies at (y - base) % kRowsAhead.
    Buffer<std::uint8_t> arriving;
    std::size_t arriving_stride = 0;
    int base = 0;
    // Rows after the horizontal pass, RGB; where the vertical pass is first, rows before it, RGBX.
    Buffer<std::uint8_t> middle;
    std::size_t middle_stride = 0;
    bool vertical_first = false;
    // Two rows after the vertical pass, where it is first, and two of the result.
    Buffer<std::uint8_t> between;
    int asked = 0, done = 0;  // rows
    int picked = 0;           // outputs whose row has been passed, of nearest

    bool allocate() noexcept;
    const std::uint8_t* arrived(int y) const noexcept {
        return arriving.data() + arriving_stride * std::size_t((y - base) % kRowsAhead);
    }
    std::uint8_t* middle_row(int y) noexcept { return middle.data() + middle_stride * std::size_t(y); }
    std::uint8_t* between_row(int i) noexcept { return between.data() + middle_stride * std::size_t(i); }
    void take(int y, int count) noexcept;
    void pick(int y) noexcept;
    void finish_two(int i, std::uint8_t* target, std::ptrdiff_t stride) noexcept;
};

namespace {

// Pillow 13's order of passes: the horizontal one comes second where the height shrinks by more than twice as many
// pixels as the width. Both orders round to bytes in between, so they differ.
// https://github.com/python-pillow/Pillow/pull/9549
bool is_vertical_first(Resizer::Size in, Resizer::Size out) {
    const int fewer_rows = in.height - out.height, fewer_columns = in.width - out.width;
    return fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
}

}  // namespace

bool Resizer::State::allocate() noexcept {
    const std::size_t width = std::size_t(horizontal->length()), height = std::size_t(vertical->length());
    arriving_stride = rounded(4 * width + 16 + kRowSlack);
    const std::size_t num = std::size_t(horizontal->num());
    middle_stride = rounded(3 * num + kRowSlack);
    if (vertical_first) middle_stride = std::max(middle_stride, arriving_stride);
    // One row more: the second of a pair whose weight is zero.
    if (height + 1 > kMostMemory / middle_stride) return false;
    if (vertical_first && !between.reserve(middle_stride * 4)) return false;
    return arriving.reserve(arriving_stride * kRowsAhead) && middle.reserve(middle_stride * (height + 1));
}

// Rows y and, with `count` 2, y + 1.
void Resizer::State::take(int y, int count) noexcept {
    const int next = y + count - 1;
    if (horizontal->copies()) {
        for (int row = y; row <= next; ++row) passes.pack(arrived(row), horizontal->num(), middle_row(row));
        return;
    }
    const std::uint8_t* const in[] = {arrived(y), arrived(next)};
    std::uint8_t* const out[] = {middle_row(y), middle_row(next)};
    passes.horizontal(*horizontal, in, out);
}

// The same for nearest, and only for a row that is in the result.
void Resizer::State::pick(int y) noexcept {
    while (picked < vertical->num() && vertical->first(picked) < y) ++picked;
    if (picked == vertical->num() || vertical->first(picked) != y) return;
    const std::uint8_t* const in = arrived(y);
    std::uint8_t* out = middle_row(y);
    for (int i = 0; i < horizontal->num(); ++i, out += 3) std::memcpy(out, in + std::size_t(4) * horizontal->first(i), 3);
}

// Output rows i and i + 1, or the last one alone, where the vertical pass is first.
void Resizer::State::finish_two(int i, std::uint8_t* target, std::ptrdiff_t stride) noexcept {
    const int count = i + 1 < vertical->num() ? 2 : 1;
    for (int j = 0; j < count; ++j) {
        passes.vertical(*vertical, i + j, middle.data(), std::ptrdiff_t(middle_stride), 4 * horizontal->length(),
                        between_row(j));
    }
    const std::uint8_t* const in[] = {between_row(0), between_row(count - 1)};
    std::uint8_t* const out[] = {between_row(2), between_row(2 + count - 1)};
    passes.horizontal(*horizontal, in, out);
    for (int j = 0; j < count; ++j) std::memcpy(target + stride * j, out[j], std::size_t(3) * horizontal->num());
}

Resizer::Resizer() : state_(new (std::nothrow) State) {}
Resizer::~Resizer() { delete state_; }

bool Resizer::prepare(Size in, Size out, const Box& window, Filter filter) noexcept {
    if (state_ == nullptr) return false;
    State& state = *state_;
    state.horizontal = state.columns.get(in.width, out.width, window.left, window.width, filter, 4);
    state.vertical = state.rows.get(in.height, out.height, window.top, window.height, filter, 2);
    if (state.horizontal == nullptr || state.vertical == nullptr) return false;
    const bool two_passes = filter != Filter::nearest && in.width != out.width && in.height != out.height;
    state.vertical_first = two_passes && is_vertical_first(in, out);
    if (!state.allocate()) return false;
    state.filter = filter;
    state.passes = passes(used_simd(), *state.horizontal, *state.vertical);
    state.base = state.asked = state.done = state.picked = 0;
    return true;
}

Box Resizer::source() const noexcept {
    const Axis &across = *state_->horizontal, &down = *state_->vertical;
    return {across.start(), down.start(), across.length(), down.length()};
}

std::uint8_t* Resizer::row(int y) noexcept {
    State& state = *state_;
    if (state.vertical_first) return state.middle_row(y);
    if (state.done == state.asked) state.base = state.done;  // the same few rows again: they are warm
    if (y >= state.asked) state.asked = y + 1;
    return state.arriving.data() + state.arriving_stride * std::size_t((y - state.base) % kRowsAhead);
}

void Resizer::written(int y) noexcept {
    State& state = *state_;
    const int height = state.vertical->length();
    if (state.vertical_first) return;
    if (state.filter == Filter::nearest) {
        while (state.done <= y) state.pick(state.done++);
        return;
    }
    for (; state.done < y; state.done += 2) state.take(state.done, 2);
    // The last of an odd number waits for its neighbour: two rows share their weights.
    if (state.done == y && y + 1 == height) state.take(state.done++, 1);
}

void Resizer::finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept {
    State& state = *state_;
    const Axis& axis = *state.vertical;
    if (state.vertical_first) {
        for (int i = 0; i < axis.num(); i += 2, target += 2 * stride) state.finish_two(i, target, stride);
        return;
    }
    const int size = 3 * state.horizontal->num();
    const bool plain = axis.copies() || state.filter == Filter::nearest;
    for (int i = 0; i < axis.num(); ++i, target += stride) {
        if (plain) {
            std::memcpy(target, state.middle_row(axis.first(i)), std::size_t(size));
        } else {
            state.passes.vertical(axis, i, state.middle.data(), std::ptrdiff_t(state.middle_stride), size, target);
        }
    }
}

}  // namespace turbo
