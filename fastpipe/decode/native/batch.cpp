#include "batch.h"

namespace turbo {

Status Worker::find(const Piece& piece, Bytes& bytes) noexcept {
    if (piece.path == nullptr) return Status::unreadable;
    const double start = now();
    const Status status = files_.read(piece.path, piece.offset, piece.length, bytes);
    seconds_.read += now() - start;
    return status;
}

Status Worker::find(const Bytes& given, Bytes& bytes) noexcept {
    bytes = given;
    return Status::done;
}

namespace {

Known known(const Batch& batch, std::size_t i) {
    if (batch.sizes == nullptr) return {batch.opened, 0, 0};
    return {batch.opened, batch.sizes[2 * i], batch.sizes[2 * i + 1]};
}

}  // namespace

template <typename Input>
void Worker::fill(const Batch& batch, const Input* inputs) noexcept {
    const std::size_t pixels = std::size_t(3) * batch.height * batch.width;
    const std::size_t draws = std::size_t(num_uniforms(*batch.step));
    for (std::size_t i = 0; i < std::size_t(batch.num_images); ++i) {
        Bytes bytes{};
        Status status = find(inputs[i], bytes);
        if (status == Status::done) {
            const Target target{batch.images + i * pixels, batch.height, batch.width};
            status = maker_.make(bytes, known(batch, i), *batch.step, batch.uniforms + i * draws, batch.limits,
                                 target, seconds_);
        }
        batch.statuses[i] = std::uint8_t(status);
    }
    files_.release();
    maker_.trim();
}

template void Worker::fill(const Batch&, const Piece*) noexcept;
template void Worker::fill(const Batch&, const Bytes*) noexcept;

Status Worker::measure(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits, int& height,
                       int& width) noexcept {
    return maker_.measure(bytes, known, step, uniforms, limits, height, width);
}

Seconds Worker::seconds() noexcept {
    const Seconds passed = seconds_;
    seconds_ = {};
    return passed;
}

}  // namespace turbo
