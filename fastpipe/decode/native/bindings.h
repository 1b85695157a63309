// The parts of the Python module, each in its file.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "crops.h"

namespace turbo {

void bind_resize(pybind11::module_& module);
void bind_step(pybind11::module_& module);
void bind_worker(pybind11::module_& module);

// Raises ValueError unless there are the step's numbers, in [0, 1), for `num` images.
void check_uniforms(const Step& step,
                    const pybind11::array_t<double, pybind11::array::c_style>& uniforms, std::int64_t num);

}  // namespace turbo
