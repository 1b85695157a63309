// fastpipe._turbo.Step: the numbers of a decode spec.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "bindings.h"
#include "resizer.h"

namespace py = pybind11;

namespace turbo {

namespace {

using Pair = std::array<std::int64_t, 2>;  // height, width
using Range = std::array<double, 2>;
using Integers = py::array_t<std::int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;

constexpr const char* kFilters[] = {"nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"};

int filter_of(const std::string& name) {
    for (std::size_t i = 0; i < std::size(kFilters); ++i) {
        if (name == kFilters[i]) return int(i);
    }
    throw py::value_error("unknown interpolation: " + name);
}

int checked(std::int64_t side, std::int64_t least) {
    if (side < least || side > kLongestSide) throw py::value_error("a size or padding is out of range");
    return int(side);
}

void set_range(const Range& range, double& low, double& high) {
    if (!(range[0] > 0.0 && range[0] <= range[1] && std::isfinite(range[1]))) {
        throw py::value_error("scale and ratio must be increasing finite pairs above 0");
    }
    low = range[0];
    high = range[1];
}

void set_resize(const py::object& resize, Step& step) {
    if (resize.is_none()) return;
    if (py::isinstance<py::int_>(resize)) {
        step.resize_height = checked(resize.cast<std::int64_t>(), 1);
        return;
    }
    const auto pair = resize.cast<Pair>();
    step.resize_height = checked(pair[0], 1);
    step.resize_width = checked(pair[1], 1);
}

void set_out(const std::optional<Pair>& size, Step& step) {
    if (!size) return;
    step.out_height = checked((*size)[0], 1);
    step.out_width = checked((*size)[1], 1);
}

Step resized_crop(const std::optional<Pair>& size, const Range& scale, const Range& ratio) {
    Step step{};
    if (!size) throw py::value_error("resized_crop needs a size");
    step.where = Where::resized_crop;
    set_out(size, step);
    set_range(scale, step.scale_low, step.scale_high);
    set_range(ratio, step.ratio_low, step.ratio_high);
    step.log_low = std::log(step.ratio_low);
    step.log_high = std::log(step.ratio_high);
    return step;
}

Step resize_crop(const py::object& resize, const std::optional<Pair>& crop, const std::string& where,
                 const std::array<std::int64_t, 4>& padding) {
    if (where != "center" && where != "random") throw py::value_error("where must be center or random");
    Step step{};
    set_resize(resize, step);
    set_out(crop, step);
    const bool random = where == "random";
    step.where = random ? Where::random : crop ? Where::center : Where::whole;
    for (std::size_t side = 0; random && side < 4; ++side) step.padding[side] = checked(padding[side], 0);
    return step;
}

Step make_step(const std::string& kind, const std::optional<Pair>& size, const Range& scale, const Range& ratio,
               const py::object& resize, const std::optional<Pair>& crop, const std::string& where,
               const std::array<std::int64_t, 4>& padding, const std::string& interpolation, bool tall_rows_first, bool fast) {
    Step step{};
    if (kind == "resized_crop") {
        step = resized_crop(size, scale, ratio);
    } else if (kind == "resize_crop") {
        step = resize_crop(resize, crop, where, padding);
    } else if (kind != "whole") {
        throw py::value_error("kind must be whole, resized_crop or resize_crop");
    }
    step.filter = filter_of(interpolation);
    step.tall_rows_first = tall_rows_first;
    step.fast = fast;
    return step;
}

// draw_box for each row of `sizes` (height, width): top, left, height, width.
Integers boxes(const Step& step, const Integers& sizes, const Doubles& uniforms) {
    const auto num = sizes.ndim() == 2 ? sizes.shape(0) : -1;
    if (num < 0 || sizes.shape(1) != 2) throw py::value_error("sizes must be int64 [N,2]");
    check_uniforms(step, uniforms, num);
    Integers made({num, py::ssize_t(4)});
    for (py::ssize_t i = 0; i < num; ++i) {
        const double* row = num_uniforms(step) ? uniforms.data(i, 0) : nullptr;
        Box box;
        if (!draw_box(step, row, checked(sizes.at(i, 0), 1), checked(sizes.at(i, 1), 1), box)) {
            throw py::value_error("a crop does not fit its image");
        }
        const int four[] = {box.top, box.left, box.height, box.width};
        for (int side = 0; side < 4; ++side) made.mutable_at(i, side) = four[side];
    }
    return made;
}

// The size of a whole image after the resize of a ResizeCrop.
py::tuple resized_size(const Step& step, std::int64_t height, std::int64_t width) {
    int out_height = 0, out_width = 0;
    if (!resized(step, checked(height, 1), checked(width, 1), out_height, out_width)) {
        throw py::value_error("the resized image has too many pixels");
    }
    return py::make_tuple(out_height, out_width);
}

py::object size_of(const Step& step) {
    int height = 0, width = 0;
    if (!fixed_size(step, height, width)) return py::none();
    return py::make_tuple(height, width);
}

}  // namespace

void check_uniforms(const Step& step, const Doubles& uniforms, std::int64_t num) {
    const auto draws = num_uniforms(step);
    if (draws == 0) return;
    if (uniforms.ndim() != 2 || uniforms.shape(0) != num || uniforms.shape(1) != draws) {
        throw py::value_error("uniforms must be float64 [" + std::to_string(num) + "," + std::to_string(draws) + "]");
    }
    const double* const all = uniforms.data();
    for (py::ssize_t i = 0; i < uniforms.size(); ++i) {
        if (!(all[i] >= 0.0 && all[i] < 1.0)) throw py::value_error("uniforms must lie in [0, 1)");
    }
}

void bind_step(py::module_& module) {
    py::class_<Step>(module, "Step", "A decode step: the numbers of RandomResizedCrop, ResizeCrop, or none.")
        .def(py::init(&make_step), py::arg("kind"), py::kw_only(), py::arg("size") = py::none(),
             py::arg("scale") = Range{0.08, 1.0}, py::arg("ratio") = Range{3.0 / 4.0, 4.0 / 3.0},
             py::arg("resize") = py::none(), py::arg("crop") = py::none(), py::arg("where") = "center",
             py::arg("padding") = std::array<std::int64_t, 4>{0, 0, 0, 0}, py::arg("interpolation") = "bilinear",
             py::arg("tall_rows_first") = true, py::arg("fast") = false)
        .def("boxes", &boxes, py::arg("sizes"), py::arg("uniforms"))
        .def("resized", &resized_size, py::arg("height"), py::arg("width"))
        .def_property_readonly("size", &size_of, "(height, width) of every result; None if it depends on the image.")
        .def_property_readonly("num_uniforms", [](const Step& step) { return num_uniforms(step); });
}

}  // namespace turbo
