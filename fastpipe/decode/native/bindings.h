// The parts of the Python module, each in its file.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "crops.h"

namespace turbo {

// The buffers of one call; they are given back with the GIL held, also after an exception.
class Buffers {
public:
    explicit Buffers(std::size_t num) { views_.reserve(num); }
    ~Buffers() {
        for (auto& view : views_) PyBuffer_Release(&view);
    }
    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;

    Bytes add(const pybind11::handle& object) {
        Py_buffer view;
        if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE) != 0) throw pybind11::error_already_set();
        views_.push_back(view);
        return {static_cast<const std::uint8_t*>(view.buf), std::size_t(view.len)};
    }

private:
    std::vector<Py_buffer> views_;
};

void bind_resize(pybind11::module_& module);
void bind_step(pybind11::module_& module);
void bind_worker(pybind11::module_& module);

// Raises ValueError unless there are the step's numbers, in [0, 1), for `num` images.
void check_uniforms(const Step& step,
                    const pybind11::array_t<double, pybind11::array::c_style>& uniforms, std::int64_t num);

}  // namespace turbo
