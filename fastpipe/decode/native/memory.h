// Memory that grows and is kept from image to image; no exceptions.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <type_traits>

namespace turbo {

// Beyond this a buffer was grown by an unusual image, and trim() gives it back.
constexpr std::size_t kept_memory = std::size_t(16) << 20;

template <class T>
class Buffer {
    static_assert(std::is_trivially_copyable<T>::value, "the content is not constructed");

public:
    Buffer() = default;
    ~Buffer() { std::free(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    // Room for `count` items. False where memory fails; what was in the buffer is lost where it grows.
    bool reserve(std::size_t count) noexcept {
        if (count <= capacity_) return true;
        if (count > (std::size_t(1) << 40) / sizeof(T)) return false;
        const std::size_t room = count + count / 4 + 64;
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
        void* made = nullptr;
        if (posix_memalign(&made, 64, room * sizeof(T)) != 0) return false;
        data_ = static_cast<T*>(made);
        capacity_ = room;
        return true;
    }
    T* data() noexcept { return data_; }
    const T* data() const noexcept { return data_; }
    void trim() noexcept {
        if (capacity_ * sizeof(T) <= kept_memory) return;
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
    }
    T& operator[](std::size_t i) noexcept { return data_[i]; }
    const T& operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T* data_ = nullptr;
    std::size_t capacity_ = 0;
};

}  // namespace turbo
