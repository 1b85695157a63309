#include "crops.h"

#include <cmath>

namespace turbo {

namespace {

using Wide = std::int64_t;

// Python's round(): half to even, which is the default rounding mode of the processor.
double round_even(double value) { return std::nearbyint(value); }

// int() of a uniform number times a count; 0 <= number < 1.
Wide position(double number, Wide count) { return Wide(number * double(count)); }

// The largest central crop within the bounds of the ratio.
bool fallback_box(const Step& step, int height, int width, Box& box) {
    const double ratio = double(width) / height;
    double crop_height = height, crop_width = width;
    if (ratio < step.ratio_low) {
        crop_height = round_even(width / step.ratio_low);
    } else if (ratio > step.ratio_high) {
        crop_width = round_even(height * step.ratio_high);
    }
    if (!(crop_height >= 1 && crop_height <= height && crop_width >= 1 && crop_width <= width)) return false;
    const int tall = int(crop_height), wide = int(crop_width);
    box = {(width - wide) / 2, (height - tall) / 2, wide, tall};
    return true;
}

bool resized_crop_box(const Step& step, const double* uniforms, int height, int width, Box& box) {
    const double pixels = double(Wide(height) * width);
    for (int attempt = 0; attempt < (kCropUniforms - 2) / 2; ++attempt) {
        const double* two = uniforms + 2 * attempt;
        const double area = pixels * (step.scale_low + (step.scale_high - step.scale_low) * two[0]);
        const double aspect = std::exp(step.log_low + (step.log_high - step.log_low) * two[1]);
        const double crop_width = round_even(std::sqrt(area * aspect));
        const double crop_height = round_even(std::sqrt(area / aspect));
        if (!std::isfinite(crop_width) || !std::isfinite(crop_height)) return false;  // Python raises
        if (crop_width > 0 && crop_width <= width && crop_height > 0 && crop_height <= height) {
            const int tall = int(crop_height), wide = int(crop_width);
            box.top = int(position(uniforms[kCropUniforms - 2], height - tall + 1));
            box.left = int(position(uniforms[kCropUniforms - 1], width - wide + 1));
            box.height = tall;
            box.width = wide;
            return true;
        }
    }
    return fallback_box(step, height, width, box);
}

// torchvision's CenterCrop along one side.
int center(int side, int crop) {
    const Wide beyond = Wide(crop) - side;
    // torchvision pads a smaller image by (d // 2, (d + 1) // 2) and rounds half to even otherwise.
    return int(beyond > 0 ? -(beyond / 2) : Wide(round_even(double(-beyond) / 2.0)));
}

// torchvision's RandomCrop along one side.
bool random(double number, int side, int crop, int before, int after, int& start) {
    const Wide room = Wide(side) + before + after - crop;
    if (room < 0) return false;
    start = int(position(number, room + 1) - before);
    return true;
}

}  // namespace

int num_uniforms(const Step& step) noexcept {
    if (step.where == Where::resized_crop) return kCropUniforms;
    return step.where == Where::random ? 2 : 0;
}

bool fixed_size(const Step& step, int& height, int& width) noexcept {
    const bool crop = step.out_height > 0;
    height = crop ? step.out_height : step.resize_height;
    width = crop ? step.out_width : step.resize_width;
    return height > 0 && width > 0;
}

bool draw_box(const Step& step, const double* uniforms, int height, int width, Box& box) noexcept {
    if (step.where == Where::resized_crop) return resized_crop_box(step, uniforms, height, width, box);
    box = {0, 0, width, height};
    if (step.out_height == 0) return true;
    box.width = step.out_width;
    box.height = step.out_height;
    if (step.where == Where::random) {
        const int* padding = step.padding;
        return random(uniforms[0], height, box.height, padding[1], padding[3], box.top) &&
               random(uniforms[1], width, box.width, padding[0], padding[2], box.left);
    }
    box.top = center(height, box.height);
    box.left = center(width, box.width);
    return true;
}

bool resized(const Step& step, int height, int width, int& out_height, int& out_width) noexcept {
    out_height = height;
    out_width = width;
    if (step.resize_height == 0) return true;
    double tall = step.resize_height, wide = step.resize_width;
    if (step.resize_width == 0) {  // torchvision's Resize(int): the longer side is truncated
        const double side = step.resize_height;
        tall = width <= height ? double(Wide(side) * height) / width : side;
        wide = width <= height ? side : double(Wide(side) * width) / height;
    }
    if (std::trunc(tall) == height && std::trunc(wide) == width) return true;
    if (std::trunc(tall) * std::trunc(wide) > double(kMostResizedPixels)) return false;
    out_height = int(tall);
    out_width = int(wide);
    return true;
}

Status plan(const Step& step, const double* uniforms, int height, int width, const Limits& limits,
            Plan& made) noexcept {
    made.in = {0, 0, width, height};
    if (step.where == Where::resized_crop) {
        if (!draw_box(step, uniforms, height, width, made.in)) return Status::crop;
        made.out_height = step.out_height;
        made.out_width = step.out_width;
        made.window = {0, 0, made.out_width, made.out_height};
        const bool same = made.in.height == made.out_height && made.in.width == made.out_width;
        if (!same && Wide(made.out_height) * made.out_width > kMostResizedPixels) return Status::too_large;
        return Status::done;
    }
    if (!resized(step, height, width, made.out_height, made.out_width)) return Status::too_large;
    if (!draw_box(step, uniforms, made.out_height, made.out_width, made.window)) return Status::crop;
    // Pillow warns of, or refuses, a crop with more pixels than an image may have.
    return Wide(made.window.width) * made.window.height > limits.pixels ? Status::too_large : Status::done;
}

}  // namespace turbo
