#include "image.h"

#include <time.h>

#include <algorithm>
#include <cstring>

#include "segments.h"

namespace turbo {

namespace {

// The part of the window that lies within the resized image.
Box inside(const Plan& made) {
    const Box& window = made.window;
    const int left = std::max(window.left, 0), top = std::max(window.top, 0);
    const int right = int(std::min<std::int64_t>(std::int64_t(window.left) + window.width, made.out_width));
    const int bottom = int(std::min<std::int64_t>(std::int64_t(window.top) + window.height, made.out_height));
    return {left, top, std::max(right - left, 0), std::max(bottom - top, 0)};
}

// The largest of 8, 4, 2 and 1 that leaves at least as many pixels as the result has.
int shrink_of(const Step& step, const Plan& made) {
    if (Filter(step.filter) == Filter::nearest) return 1;
    for (int shrink = 8; shrink > 1; shrink /= 2) {
        if (made.in.width >= shrink * std::int64_t(made.out_width) &&
            made.in.height >= shrink * std::int64_t(made.out_height)) {
            return shrink;
        }
    }
    return 1;
}

// A box of the image in the shrunk image: the pixels that it touches, and where it lies in them.
struct Shrunk {
    Box box;
    Resizer::Part part;
};

Shrunk shrunk(const Box& box, int shrink) {
    const int left = box.left / shrink, top = box.top / shrink;
    const int right = (box.left + box.width + shrink - 1) / shrink, bottom = (box.top + box.height + shrink - 1) / shrink;
    const auto x = [&](int at) { return double(at) / shrink - left; };
    const auto y = [&](int at) { return double(at) / shrink - top; };
    return {{left, top, right - left, bottom - top},
            {x(box.left), y(box.top), x(box.left + box.width), y(box.top + box.height)}};
}

// Pillow's crop fills what lies outside the image with zeros, as torchvision's constant padding does.
void blacken_around(const Target& target, const Box& within) {
    const std::size_t stride = std::size_t(3) * target.width;
    std::uint8_t* const all = target.pixels;
    const int bottom = within.top + within.height, right = within.left + within.width;
    std::memset(all, 0, stride * within.top);
    std::memset(all + stride * bottom, 0, stride * (target.height - bottom));
    if (within.width == target.width) return;
    for (int y = within.top; y < bottom; ++y) {
        std::uint8_t* const row = all + stride * y;
        std::memset(row, 0, std::size_t(3) * within.left);
        std::memset(row + std::size_t(3) * right, 0, std::size_t(3) * (target.width - right));
    }
}

}  // namespace

double now() noexcept {
    struct timespec time;
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

Status ImageMaker::make(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits,
                        const Target& target, Seconds& seconds) noexcept {
    const double start = now();
    Plan made;
    const Status status = header(bytes, known, step, uniforms, limits, made);
    seconds.decode += now() - start;
    if (status != Status::done) return status;
    if (made.window.height != target.height || made.window.width != target.width) return Status::crop;
    return pixels(made, step, target, seconds);
}

Status ImageMaker::measure(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits,
                           int& height, int& width) noexcept {
    Plan made;
    const Status status = header(bytes, known, step, uniforms, limits, made);
    if (status != Status::done) return status;
    height = made.window.height;
    width = made.window.width;
    return status;
}

Status ImageMaker::header(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits,
                          Plan& made) noexcept {
    const Status status = decoder_.open(bytes, limits);
    if (status != Status::done) return status;
    const bool sized = known.height != 0 || known.width != 0;
    if (sized && (known.height != decoder_.height() || known.width != decoder_.width())) return Status::table;
    if (!known.opened && !pillow_opens(bytes)) return Status::metadata;
    return plan(step, uniforms, decoder_.height(), decoder_.width(), limits, made);
}

Status ImageMaker::pixels(const Plan& made, const Step& step, const Target& target, Seconds& seconds) noexcept {
    const Box part = inside(made);
    // Nothing but black: Pillow still decodes the image, and reports its damage.
    if (part.width == 0 || part.height == 0) return Status::crop;
    const double start = now();
    const int shrink = step.fast ? shrink_of(step, made) : 1;
    const Shrunk from = shrunk(made.in, shrink);
    if (!resizer_.prepare({from.box.width, from.box.height}, from.part, {made.out_width, made.out_height}, part,
                          Filter(step.filter), step.tall_rows_first)) {
        return Status::memory;
    }
    Box region = resizer_.source();
    region.left += from.box.left;
    region.top += from.box.top;
    const Status status = decoder_.decode(region, resizer_, shrink);
    const double decoded = now();
    seconds.decode += decoded - start;
    if (status != Status::done) return status;
    const Box at{part.left - made.window.left, part.top - made.window.top, part.width, part.height};
    const std::size_t stride = std::size_t(3) * target.width;
    resizer_.finish(target.pixels + stride * at.top + std::size_t(3) * at.left, std::ptrdiff_t(stride));
    if (part.width != target.width || part.height != target.height) blacken_around(target, at);
    seconds.resize += now() - decoded;
    return status;
}

}  // namespace turbo
