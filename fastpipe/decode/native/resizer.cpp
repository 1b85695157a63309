#include "resizer.h"

#include <new>

#include "methods.h"

namespace turbo {

namespace {

// Pillow 13's order of passes: the horizontal one comes second where the height shrinks by more than twice as many
// pixels as the width. Both orders round to bytes in between, so they differ.
// https://github.com/python-pillow/Pillow/pull/9549
bool are_rows_first(Resizer::Size in, Resizer::Size out) {
    const int fewer_rows = in.height - out.height, fewer_columns = in.width - out.width;
    return fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
}

}  // namespace

struct Resizer::State {
    Axes columns, rows;
    const Axis* horizontal = nullptr;
    const Axis* vertical = nullptr;
    ColumnsFirst columns_first;
    RowsFirst rows_first;
    Nearest nearest;
    Method* method = nullptr;

    Method* choose(Size in, Size out, Filter filter, bool tall_rows_first) noexcept;
};

Method* Resizer::State::choose(Size in, Size out, Filter filter, bool tall_rows_first) noexcept {
    if (filter == Filter::nearest) return &nearest;
    const bool two_passes = !horizontal->copies() && !vertical->copies();
    if (two_passes && tall_rows_first && are_rows_first(in, out)) return &rows_first;
    return &columns_first;
}

Resizer::Resizer() : state_(new (std::nothrow) State) {}
Resizer::~Resizer() { delete state_; }

void Resizer::trim() noexcept {
    if (state_ == nullptr) return;
    state_->columns_first.trim();
    state_->rows_first.trim();
    state_->nearest.trim();
}

bool Resizer::prepare(Size in, Size out, const Box& window, Filter filter, bool tall_rows_first) noexcept {
    return prepare(in, {0, 0, double(in.width), double(in.height)}, out, window, filter, tall_rows_first);
}

bool Resizer::prepare(Size in, const Part& part, Size out, const Box& window, Filter filter,
                      bool tall_rows_first) noexcept {
    if (state_ == nullptr) return false;
    State& state = *state_;
    state.horizontal =
        state.columns.get({in.width, part.left, part.right, out.width, window.left, window.width, filter}, 4);
    state.vertical =
        state.rows.get({in.height, part.top, part.bottom, out.height, window.top, window.height, filter}, 2);
    if (state.horizontal == nullptr || state.vertical == nullptr) return false;
    state.method = state.choose(in, out, filter, tall_rows_first);
    const Passes chosen = passes(used_simd(), *state.horizontal, *state.vertical);
    return state.method->prepare(*state.horizontal, *state.vertical, chosen);
}

Box Resizer::source() const noexcept {
    const Axis &across = *state_->horizontal, &down = *state_->vertical;
    return {across.start(), down.start(), across.length(), down.length()};
}

std::uint8_t* Resizer::row(int y) noexcept { return state_->method->row(y); }
void Resizer::written(int y) noexcept { state_->method->written(y); }
void Resizer::finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept { state_->method->finish(target, stride); }

}  // namespace turbo
