// One axis of a resize: which source pixels each output pixel takes, with what weights.
// Source: precompute_coeffs and normalize_coeffs_8bpc of Pillow's libImaging/Resample.c, the same operations in the
// same order; ImagingScaleAffine of its Geometry.c for nearest.
#pragma once
#include "memory.h"
#include "resizer.h"

namespace turbo {

constexpr int kLongestOut = 1 << 17;  // of an output's side; Pillow is asked for longer ones
constexpr int kWeightBits = 22;

// Outputs from..from+num of `out`, into which the pixels `begin` to `end` are resized, of `in` that are there: the
// ends may lie within pixels, as in Pillow's resize(box=...).
struct Course {
    int in;
    double begin, end;
    int out, from, num;
    Filter filter;

    bool operator==(const Course& other) const noexcept {
        return in == other.in && begin == other.begin && end == other.end && out == other.out && from == other.from &&
               num == other.num && filter == other.filter;
    }
};

class Axis {
public:
    // The vector form has a multiple of `taps_step` taps, and a multiple of four outputs. False where memory fails,
    // or Pillow would fail.
    bool prepare(const Course& course, int taps_step) noexcept;

    bool is(const Course& course, int taps_step) const noexcept {
        return valid_ && course_ == course && taps_step_ == taps_step;
    }

    int start() const noexcept { return start_; }  // of the source pixels that are needed
    int length() const noexcept { return length_; }
    int num() const noexcept { return course_.num; }
    bool copies() const noexcept {
        return course_.in == course_.out && course_.begin == 0 && course_.end == course_.in;
    }

    // Of output `i`, counted from `from`: the first source pixel, counted from start(), and its weights.
    int first(int i) const noexcept { return first_[i]; }
    int count(int i) const noexcept { return count_[i]; }
    const std::int32_t* weights(int i) const noexcept { return weights_.data() + std::size_t(i) * taps_; }

    // The same for vectors: pairs() pairs of taps for every output, pixels beyond length() have weight zero.
    // A pair is [high, high, low, low] of 16 bits: weight = high * 2^kLowBits + low, 0 <= low < 2^kLowBits.
    // False where a weight has no such parts.
    static constexpr int kLowBits = 11;
    bool has_pairs() const noexcept { return has_pairs_; }
    int pairs() const noexcept { return pairs_; }
    const std::int32_t* vector_firsts() const noexcept { return vector_first_.data(); }
    const std::int16_t* vector_pairs() const noexcept { return vector_.data(); }

private:
    void copy_pixels() noexcept;
    bool pick_pixels() noexcept;
    bool weigh_pixels() noexcept;
    void weigh(int i, double center, double support, double inverse) noexcept;
    void set_span() noexcept;
    bool make_pairs() noexcept;

    Course course_{};
    int taps_step_ = 0;
    bool valid_ = false;
    int start_ = 0, length_ = 0, taps_ = 0, pairs_ = 0;
    bool has_pairs_ = false;
    Buffer<std::int32_t> first_, count_, weights_, vector_first_;
    Buffer<std::int16_t> vector_;
    Buffer<double> exact_;
};

// The last few axes: a data set repeats its sizes.
class Axes {
public:
    // Valid until the next call; nullptr where prepare() fails.
    const Axis* get(const Course& course, int taps_step) noexcept;

private:
    static constexpr int kKept = 8;
    Axis axes_[kKept];
    int next_ = 0;
};

}  // namespace turbo
