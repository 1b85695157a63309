// The Python module fastpipe._turbo.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <vector>

#include "bindings.h"
#include "decoder.h"
#include "segments.h"

namespace py = pybind11;
using turbo::Box;
using Pixels = py::array_t<std::uint8_t, py::array::c_style>;

namespace {

// Collects RGBX rows.
class Rows final : public turbo::RowSink {
public:
    explicit Rows(Box box) : width_(box.width), data_(std::size_t(box.width) * 4 * box.height + 64) {}
    std::uint8_t* row(int y) noexcept override { return &data_[std::size_t(y) * width_ * 4]; }
    void written(int) noexcept override {}
    void rgb(std::uint8_t* to, int height) const {
        for (std::size_t i = 0; i < std::size_t(width_) * height; ++i) std::memcpy(to + 3 * i, &data_[4 * i], 3);
    }

private:
    int width_;
    std::vector<std::uint8_t> data_;
};

// One image's region, for tests: (status, RGB uint8 [H,W,3] or None).
py::tuple decode(const py::object& data, py::object region, std::int64_t max_pixels) {
    turbo::Buffers buffers(1);
    turbo::Decoder decoder;
    auto status = decoder.open(buffers.add(data), {max_pixels});
    if (status != turbo::Status::done) return py::make_tuple(int(status), py::none());
    Box box{0, 0, decoder.width(), decoder.height()};
    if (!region.is_none()) {
        const auto four = region.cast<std::array<int, 4>>();  // left, top, width, height
        box = {four[0], four[1], four[2], four[3]};
    }
    Rows rows(box);
    status = decoder.decode(box, rows);
    if (status != turbo::Status::done) return py::make_tuple(int(status), py::none());
    Pixels out({box.height, box.width, 3});
    rows.rgb(out.mutable_data(), box.height);
    return py::make_tuple(int(status), out);
}

}  // namespace

PYBIND11_MODULE(_turbo, module) {
    module.doc() = "JPEG crops with libjpeg-turbo's pixels, resized with Pillow's.";
    module.def("decode", &decode, py::arg("data"), py::arg("region") = py::none(),
               py::arg("max_pixels") = std::int64_t(1) << 40);
    module.attr("INTERFACE") = 1;  // fastpipe/backends/turbo/native.py expects this number
    turbo::bind_resize(module);
    turbo::bind_step(module);
    turbo::bind_worker(module);
    module.def("pillow_opens", [](const py::object& data) {
        turbo::Buffers buffers(1);
        return turbo::pillow_opens(buffers.add(data));
    });
    module.def("use_simd", [](int simd) { turbo::use_simd(turbo::Simd(simd)); });
    module.def("used_simd", [] { return int(turbo::used_simd()); });
    module.def("best_simd", [] { return int(turbo::best_simd()); });
}
