// Many images of one thread, without Python.
#pragma once
#include <atomic>

#include "files.h"
#include "image.h"

namespace turbo {

// What all images of a call have in common.
struct Batch {
    const Step* step;
    const double* uniforms;  // num_images x num_uniforms
    std::int64_t num_images;
    std::uint8_t* images;  // num_images x height x width x 3
    int height, width;
    Limits limits;
    const std::int64_t* sizes;  // num_images x (height, width) of a table; nullptr: there is none
    bool opened;                // by Pillow, each image
    std::uint8_t* statuses;
};

// Where an image lies: a path that outlives the call (nullptr: unreadable), and the piece of the file.
struct Piece {
    const char* path;
    std::int64_t offset, length;
};

class Worker {
public:
    // `Input` is Piece or Bytes, one for each image.
    template <typename Input>
    void fill(const Batch& batch, const Input* inputs) noexcept;

    Status measure(Bytes bytes, const Known& known, const Step& step, const double* uniforms, const Limits& limits, int& height,
                   int& width) noexcept;

    // Since the last call.
    Seconds seconds() noexcept;

    // Two threads may not use one worker: false for the second.
    bool enter() noexcept { return !busy_.test_and_set(std::memory_order_acquire); }
    void leave() noexcept { busy_.clear(std::memory_order_release); }

private:
    Status find(const Piece& piece, Bytes& bytes) noexcept;
    Status find(const Bytes& given, Bytes& bytes) noexcept;

    ImageMaker maker_;
    Files files_;
    Seconds seconds_{};
    std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace turbo
