#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <new>

namespace turbo {

namespace {

// The size of a regular file; -1 for anything else.
std::int64_t size_of(int descriptor) {
    struct stat facts;
    if (::fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) return -1;
    return facts.st_size;
}

bool read_all(int descriptor, std::uint8_t* to, std::size_t size, std::int64_t offset) {
    while (size > 0) {
        const ssize_t got = ::pread(descriptor, to, size, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;  // 0: the file became shorter
        to += got;
        size -= std::size_t(got);
        offset += got;
    }
    return true;
}

}  // namespace

Status Files::read(const char* path, std::int64_t offset, std::int64_t length, Bytes& bytes) noexcept {
    if (!open(path)) return Status::unreadable;
    const std::int64_t size = size_of(descriptor_);
    if (offset < 0 || length < -1 || offset > size || length > size - offset) return Status::unreadable;
    const std::int64_t want = length < 0 ? size - offset : length;
    if (want > kLongestFile) return Status::too_large;
    if (!reserve(std::size_t(want))) return Status::memory;
    if (!read_all(descriptor_, memory_.get(), std::size_t(want), offset)) return Status::unreadable;
    if (size_of(descriptor_) != size) return Status::unreadable;  // it is being written
    bytes = {memory_.get(), std::size_t(want)};
    return Status::done;
}

void Files::release() noexcept {
    close();
    if (capacity_ <= kept_memory) return;
    memory_.reset();
    capacity_ = 0;
}

bool Files::open(const char* path) noexcept {
    if (descriptor_ >= 0 && path == path_) return true;
    close();
    do {  // O_NONBLOCK: a pipe without a writer would wait for ever
        descriptor_ = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (descriptor_ < 0 && errno == EINTR);
    path_ = path;
    return descriptor_ >= 0;
}

void Files::close() noexcept {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
    path_ = nullptr;
}

bool Files::reserve(std::size_t size) noexcept {
    if (size <= capacity_ && memory_) return true;
    const std::size_t more = size + size / 4 + 4096;  // few steps up to the longest file
    memory_.reset(new (std::nothrow) std::uint8_t[more]);
    capacity_ = memory_ ? more : 0;
    return memory_ != nullptr;
}

}  // namespace turbo
