// fastpipe._turbo.Worker: arguments are checked here, with the GIL; the work runs without it.
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <vector>

#include "batch.h"
#include "bindings.h"

namespace py = pybind11;

namespace turbo {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// One thread at a time.
class Entry {
public:
    explicit Entry(Worker& worker) : worker_(worker) {
        if (!worker.enter()) throw std::runtime_error("this Worker is at work in another thread");
    }
    ~Entry() { worker_.leave(); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

private:
    Worker& worker_;
};

int side_of(py::ssize_t side) {
    if (side < 1 || side > kLongestSide) throw py::value_error("images has a side out of range");
    return int(side);
}

// No array_t here: pybind11 would convert a wrong array into a copy, and the pixels were lost.
Batch batch_of(const Step& step, const Array<double>& uniforms, py::array& images, std::int64_t max_pixels,
               Array<std::uint8_t>& statuses) {
    if (!py::isinstance<py::array_t<std::uint8_t>>(images) || images.ndim() != 4 || images.shape(3) != 3 ||
        !(images.flags() & py::array::c_style) || !images.writeable()) {
        throw py::value_error("images must be writeable, C-contiguous uint8 [N,H,W,3]");
    }
    Batch batch{};
    batch.step = &step;
    batch.num_images = images.shape(0);
    batch.height = side_of(images.shape(1));
    batch.width = side_of(images.shape(2));
    int height = 0, width = 0;
    if (fixed_size(step, height, width) && (height != batch.height || width != batch.width)) {
        throw py::value_error("images must have the step's height and width");
    }
    check_uniforms(step, uniforms, batch.num_images);
    batch.uniforms = uniforms.data();
    batch.images = static_cast<std::uint8_t*>(images.mutable_data());
    batch.limits = {max_pixels};
    statuses = Array<std::uint8_t>(batch.num_images);
    batch.statuses = statuses.mutable_data();
    return batch;
}

void check_indices(const Array<std::int64_t>& values, std::int64_t num, const char* name) {
    if (values.ndim() != 1 || values.shape(0) != num) {
        throw py::value_error(std::string(name) + " must be int64 [N], with N of images");
    }
}

// The paths that are used; `kept` holds them while the GIL is released. A path with a zero byte is no file.
std::vector<Piece> pieces_of(const py::list& files, const Array<std::int64_t>& file,
                             const Array<std::int64_t>& offset, const Array<std::int64_t>& length,
                             std::int64_t num, std::vector<py::object>& kept) {
    check_indices(file, num, "file");
    check_indices(offset, num, "offset");
    check_indices(length, num, "length");
    std::vector<Piece> pieces;
    pieces.reserve(std::size_t(num));
    kept.reserve(std::size_t(num));
    for (py::ssize_t i = 0; i < num; ++i) {
        const std::int64_t which = file.at(i);
        if (which < 0 || which >= std::int64_t(files.size())) throw py::index_error("file is out of range");
        kept.push_back(py::reinterpret_borrow<py::object>(PyList_GET_ITEM(files.ptr(), which)));
        PyObject* const path = kept.back().ptr();
        if (!PyBytes_Check(path)) throw py::type_error("files must be a list of bytes");
        const char* const text = PyBytes_AS_STRING(path);
        const bool whole = std::strlen(text) == std::size_t(PyBytes_GET_SIZE(path));
        pieces.push_back({whole ? text : nullptr, offset.at(i), length.at(i)});
    }
    return pieces;
}

py::array fill(Worker& worker, const py::list& files, const Array<std::int64_t>& file,
               const Array<std::int64_t>& offset, const Array<std::int64_t>& length, const Step& step,
               const Array<double>& uniforms, py::array images, std::int64_t max_pixels) {
    const Entry entry(worker);
    Array<std::uint8_t> statuses;
    const Batch batch = batch_of(step, uniforms, images, max_pixels, statuses);
    std::vector<py::object> kept;
    const auto pieces = pieces_of(files, file, offset, length, batch.num_images, kept);
    {
        const py::gil_scoped_release release;
        worker.fill(batch, pieces.data());
    }
    return statuses;
}

py::array fill_bytes(Worker& worker, const py::sequence& data, const Step& step, const Array<double>& uniforms,
                     py::array images, std::int64_t max_pixels, const std::optional<Array<std::int64_t>>& sizes,
                     bool opened) {
    const Entry entry(worker);
    Array<std::uint8_t> statuses;
    Batch batch = batch_of(step, uniforms, images, max_pixels, statuses);
    if (std::int64_t(data.size()) != batch.num_images) throw py::value_error("data and images differ in length");
    if (sizes && (sizes->ndim() != 2 || sizes->shape(0) != batch.num_images || sizes->shape(1) != 2)) {
        throw py::value_error("sizes must be int64 [N,2], with N of images");
    }
    batch.sizes = sizes ? sizes->data() : nullptr;
    batch.opened = opened;
    Buffers buffers(data.size());
    std::vector<Bytes> inputs;
    inputs.reserve(data.size());
    for (std::size_t i = 0; i < std::size_t(batch.num_images); ++i) inputs.push_back(buffers.add(data[i]));
    {
        const py::gil_scoped_release release;
        worker.fill(batch, inputs.data());
    }
    return statuses;
}

py::tuple measure(Worker& worker, const py::object& data, const Step& step, const Array<double>& uniforms,
                  std::int64_t max_pixels, bool opened) {
    const Entry entry(worker);
    const Array<double> row({py::ssize_t(1), uniforms.size()}, uniforms.data());
    check_uniforms(step, row, 1);
    Buffers buffers(1);
    const Bytes bytes = buffers.add(data);
    int height = 0, width = 0;
    const Status status = worker.measure(bytes, {opened, 0, 0}, step, row.data(), {max_pixels}, height, width);
    return py::make_tuple(int(status), height, width);
}

py::tuple seconds(Worker& worker) {
    const Entry entry(worker);
    const Seconds passed = worker.seconds();
    return py::make_tuple(passed.read, passed.decode, passed.resize);
}

}  // namespace

void bind_worker(py::module_& module) {
    py::tuple names(std::size(kStatusNames));
    for (std::size_t i = 0; i < std::size(kStatusNames); ++i) names[i] = kStatusNames[i];
    module.attr("STATUSES") = names;
    py::class_<Worker>(module, "Worker", "One thread's decoder and resizer, which keep their memory.")
        .def(py::init<>())
        .def("fill", &fill, py::arg("files"), py::arg("file"), py::arg("offset"), py::arg("length"),
             py::arg("step"), py::arg("uniforms"), py::arg("images"), py::arg("max_pixels"))
        .def("fill_bytes", &fill_bytes, py::arg("data"), py::arg("step"), py::arg("uniforms"),
             py::arg("images"), py::arg("max_pixels"), py::kw_only(), py::arg("sizes") = py::none(),
             py::arg("opened") = false)
        .def("measure", &measure, py::arg("data"), py::arg("step"), py::arg("uniforms"), py::arg("max_pixels"),
             py::kw_only(), py::arg("opened") = false)
        .def("seconds", &seconds);
}

}  // namespace turbo
