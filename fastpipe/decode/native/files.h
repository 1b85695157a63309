// Bytes of image files: a whole file, or a piece of one.
#pragma once
#include <memory>

#include "decoder.h"
#include "memory.h"

namespace turbo {

// A longer file is left to Python: no image that Pillow opens without a warning needs half of it.
constexpr std::int64_t kLongestFile = std::int64_t(1) << 29;

// One thread's reader. Its memory grows to the longest piece; release() gives back what is unusual.
class Files {
public:
    Files() = default;
    ~Files() { release(); }
    Files(const Files&) = delete;
    Files& operator=(const Files&) = delete;

    // `length` -1: to the end. The bytes live until the next call. A file stays open as long as consecutive
    // calls have the same `path` pointer; release() closes it.
    Status read(const char* path, std::int64_t offset, std::int64_t length, Bytes& bytes) noexcept;
    void release() noexcept;

private:
    bool open(const char* path) noexcept;
    void close() noexcept;
    bool reserve(std::size_t size) noexcept;

    int descriptor_ = -1;
    const char* path_ = nullptr;
    std::unique_ptr<std::uint8_t[]> memory_;
    std::size_t capacity_ = 0;
};

}  // namespace turbo
