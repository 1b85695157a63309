#include "axis.h"

#include <algorithm>
#include <climits>
#include <cmath>

namespace turbo {

namespace {

constexpr double kPi = 3.14159265358979323846;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
    x = x < 0.0 ? -x : x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

double hamming(double x) {
    x = x < 0.0 ? -x : x;
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x = x * kPi;
    return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));
}

double bicubic(double x) {
    constexpr double a = -0.5;
    x = x < 0.0 ? -x : x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

double sinc(double x) {
    if (x == 0.0) return 1.0;
    x = x * kPi;
    return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

double support_of(Filter filter) {
    switch (filter) {
        case Filter::box: return 0.5;
        case Filter::bicubic: return 2.0;
        case Filter::lanczos: return 3.0;
        default: return 1.0;
    }
}

double weight_of(Filter filter, double x) {
    switch (filter) {
        case Filter::box: return box(x);
        case Filter::bicubic: return bicubic(x);
        case Filter::hamming: return hamming(x);
        case Filter::lanczos: return lanczos(x);
        default: return bilinear(x);
    }
}

std::int32_t fixed_point(double weight) {
    const double scaled = weight * (1 << kWeightBits);
    return std::int32_t(weight < 0 ? -0.5 + scaled : 0.5 + scaled);
}

}  // namespace

bool Axis::prepare(const Course& course, int taps_step) noexcept {
    if (is(course, taps_step)) return true;
    valid_ = false;
    const int num = course.num, from = course.from, out = course.out;
    if (course.in < 1 || out < 1 || out > kLongestOut || from < 0 || num < 1 || num > out - from) return false;
    if (!(course.begin >= 0 && course.begin < course.end && course.end <= course.in)) return false;
    course_ = course;
    taps_step_ = taps_step;
    has_pairs_ = false;
    const std::size_t padded = std::size_t(num) + 3;
    if (!first_.reserve(padded) || !count_.reserve(padded)) return false;
    if (copies()) {
        copy_pixels();
        valid_ = true;
    } else {
        valid_ = course.filter == Filter::nearest ? pick_pixels() : weigh_pixels();
    }
    return valid_;
}

void Axis::copy_pixels() noexcept {
    start_ = course_.from;
    length_ = num();
    for (int i = 0; i < num(); ++i) {
        first_[i] = i;
        count_[i] = 1;
    }
}

// The middle of each output pixel, by repeated addition: the sum's rounding is a part of Pillow's result.
bool Axis::pick_pixels() noexcept {
    const double scale = (course_.end - course_.begin) / course_.out;
    double at = course_.begin + scale * 0.5;
    for (int i = 0; i < course_.from; ++i) at += scale;
    for (int i = 0; i < num(); ++i, at += scale) {
        const int pixel = int(at);
        if (pixel >= course_.in) return false;  // Pillow leaves it black; does not happen below kLongestOut
        first_[i] = pixel;
        count_[i] = 1;
    }
    set_span();
    return true;
}

bool Axis::weigh_pixels() noexcept {
    const double scale = (course_.end - course_.begin) / course_.out, widening = std::max(scale, 1.0);
    const double support = support_of(course_.filter) * widening;
    const std::int64_t most = std::int64_t(std::ceil(support)) * 2 + 1;
    if (course_.out > INT_MAX / (most * std::int64_t(sizeof(double)))) return false;  // Pillow's MemoryError
    taps_ = int(std::min<std::int64_t>(most, course_.in));
    if (!weights_.reserve(std::size_t(num()) * std::size_t(taps_)) || !exact_.reserve(std::size_t(taps_))) return false;
    const double inverse = 1.0 / widening;
    for (int i = 0; i < num(); ++i) weigh(i, course_.begin + (course_.from + i + 0.5) * scale, support, inverse);
    set_span();
    return make_pairs();
}

void Axis::weigh(int i, double center, double support, double inverse) noexcept {
    const int first = std::max(int(center - support + 0.5), 0);
    const int count = std::min(int(center + support + 0.5), course_.in) - first;
    double* const exact = exact_.data();
    double sum = 0.0;
    for (int x = 0; x < count; ++x) {
        exact[x] = weight_of(course_.filter, (x + first - center + 0.5) * inverse);
        sum += exact[x];
    }
    std::int32_t* const fixed = weights_.data() + std::size_t(i) * taps_;
    for (int x = 0; x < count; ++x) fixed[x] = fixed_point(sum != 0.0 ? exact[x] / sum : exact[x]);
    first_[i] = first;
    count_[i] = count;
}

// Both ends of the outputs' pixels only grow.
void Axis::set_span() noexcept {
    start_ = first_[0];
    length_ = first_[num() - 1] + count_[num() - 1] - start_;
    for (int i = 0; i < num(); ++i) first_[i] -= start_;
}

// Every output takes the same number of taps: an output near the end starts earlier, with weights of zero.
bool Axis::make_pairs() noexcept {
    const int most = *std::max_element(count_.data(), count_.data() + num());
    const int taps = (most + taps_step_ - 1) / taps_step_ * taps_step_;
    const int padded = (num() + 3) & ~3;
    pairs_ = taps / 2;
    const std::size_t size = std::size_t(padded) * taps * 2;
    if (!vector_first_.reserve(padded) || !vector_.reserve(size)) return false;
    std::fill(vector_.data(), vector_.data() + size, std::int16_t(0));
    std::fill(vector_first_.data(), vector_first_.data() + padded, 0);
    has_pairs_ = true;
    for (int i = 0; i < num(); ++i) {
        const int first = std::min(first_[i], std::max(length_ - taps, 0));
        vector_first_[i] = first;
        std::int16_t* const pairs = vector_.data() + std::size_t(i) * taps * 2;
        for (int x = 0; x < count_[i]; ++x) {
            const std::int32_t weight = weights(i)[x], low = weight & ((1 << kLowBits) - 1);
            const std::int32_t high = (weight - low) / (1 << kLowBits);
            has_pairs_ = has_pairs_ && high >= INT16_MIN && high <= INT16_MAX;
            const int tap = first_[i] - first + x;
            pairs[tap / 2 * 4 + tap % 2] = std::int16_t(high);
            pairs[tap / 2 * 4 + 2 + tap % 2] = std::int16_t(low);
        }
    }
    return true;
}

const Axis* Axes::get(const Course& course, int taps_step) noexcept {
    for (const Axis& axis : axes_) {
        if (axis.is(course, taps_step)) return &axis;
    }
    Axis& axis = axes_[next_];
    next_ = (next_ + 1) % kKept;
    return axis.prepare(course, taps_step) ? &axis : nullptr;
}

}  // namespace turbo
