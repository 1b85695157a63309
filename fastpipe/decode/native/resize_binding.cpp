// fastpipe._turbo.Resizer: the resizer alone, for tests.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "bindings.h"
#include "resizer.h"

namespace py = pybind11;

namespace turbo {

namespace {

using Pixels = py::array_t<std::uint8_t, py::array::c_style>;

// `channels` 3: RGB, which the rows get as RGBX; 4: RGBX.
void copy_row(const std::uint8_t* from, int width, int channels, std::uint8_t* to) {
    if (channels == 4) {
        std::memcpy(to, from, std::size_t(4) * width);
        return;
    }
    for (int x = 0; x < width; ++x, to += 4, from += 3) std::memcpy(to, from, 3);
}

// The rows go to the resizer `ahead` at a time, as a decoder has them.
Pixels resize(Resizer& resizer, const Pixels& image, std::array<int, 2> size, std::array<int, 4> window, int filter,
              int ahead, bool tall_rows_first) {
    if (image.ndim() != 3 || image.shape(0) > 65500 || image.shape(1) > 65500 ||
        (image.shape(2) != 3 && image.shape(2) != 4)) {
        throw py::value_error("image must be uint8 [H,W,3] or [H,W,4] of at most 65500 x 65500 pixels");
    }
    if (filter < 0 || filter > int(Filter::lanczos)) throw py::value_error("unknown filter");
    if (ahead < 1 || ahead > kRowsAhead) throw py::value_error("ahead is out of range");
    const Resizer::Size in{int(image.shape(1)), int(image.shape(0))}, out{size[1], size[0]};
    const Box want{window[0], window[1], window[2], window[3]};
    if (!resizer.prepare(in, out, want, Filter(filter), tall_rows_first)) throw py::value_error("cannot resize");
    const Box need = resizer.source();
    for (int y = 0; y < need.height; y += ahead) {
        const int end = std::min(y + ahead, need.height);
        for (int line = y; line < end; ++line) {
            copy_row(image.data(need.top + line, need.left, 0), need.width, int(image.shape(2)), resizer.row(line));
        }
        resizer.written(end - 1);
    }
    Pixels made({want.height, want.width, 3});
    resizer.finish(made.mutable_data(), std::ptrdiff_t(3) * want.width);
    return made;
}

}  // namespace

void bind_resize(py::module_& module) {
    py::class_<Resizer>(module, "Resizer", "Pillow's resize, for tests and benchmarks.")
        .def(py::init<>())
        .def("resize", &resize, py::arg("image"), py::arg("size"), py::arg("window"), py::arg("filter"),
             py::arg("ahead") = 1, py::arg("tall_rows_first") = true);
}

}  // namespace turbo
