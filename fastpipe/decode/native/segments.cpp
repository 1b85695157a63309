#include "segments.h"

#include <cstring>

namespace turbo {
namespace {

// One segment's payload; every read is bounded by `size`.
struct Payload {
    const std::uint8_t* data;
    std::size_t size;

    template <std::size_t N>
    bool starts(const char (&word)[N]) const noexcept {
        return size >= N - 1 && std::memcmp(data, word, N - 1) == 0;
    }
};

// Pillow catches a read of a number past the end of Photoshop's resources, but not that of a name's length.
bool photoshop_is_read(Payload part) noexcept {
    std::size_t at = 14;
    while (at + 4 <= part.size && std::memcmp(part.data + at, "8BIM", 4) == 0) {
        at += 4;
        if (part.size - at < 2) return true;
        at += 2;
        if (at >= part.size) return false;
        at += 1 + std::size_t(part.data[at]);
        at += at & 1;
        if (at > part.size || part.size - at < 4) return true;
        const std::uint8_t* size = part.data + at;
        at += 4;
        const auto length = std::uint32_t(size[0]) << 24 | std::uint32_t(size[1]) << 16 |
                            std::uint32_t(size[2]) << 8 | std::uint32_t(size[3]);
        if (length > part.size - at) return true;
        at += length;
        at += at & 1;
    }
    return true;
}

class Header {
public:
    bool application(int number, Payload part) noexcept {
        if (number == 0 && part.starts("JFIF")) {
            if (part.size < 7) return false;
            const bool known = part.size >= 12 && (part.data[7] == 1 || part.data[7] == 2);
            density_ = density_ || known;
        } else if (number == 1 && part.starts("Exif\0\0")) {
            exif_ = true;
        } else if (number == 2 && part.starts("ICC_PROFILE\0")) {
            return part.size >= 14;
        } else if (number == 2 && part.starts("MPF\0")) {
            return false;
        } else if (number == 13 && part.starts("Photoshop 3.0\0")) {
            return photoshop_is_read(part);
        } else if (number == 14 && part.starts("Adobe")) {
            return part.size >= 7;
        }
        return true;
    }

    // Without a density in JFIF, Pillow looks for it in EXIF, and warns about what it cannot read there.
    bool reads_exif() const noexcept { return exif_ && !density_; }

private:
    bool density_ = false, exif_ = false;
};

bool frame_is_read(Payload part) noexcept {
    return part.size >= 6 && part.size == 6 + 3 * std::size_t(part.data[5]);
}

}  // namespace

bool pillow_opens(Bytes file) noexcept {
    if (file.size < 4 || file.data[0] != 0xFF || file.data[1] != 0xD8 || file.data[2] != 0xFF) return false;
    Header header;
    std::size_t at = 2;
    while (file.size - at >= 4) {
        if (file.data[at] != 0xFF) return false;
        const int marker = file.data[at + 1];
        if (marker == 0xFF) {
            ++at;
            continue;
        }
        const std::size_t length = std::size_t(file.data[at + 2]) << 8 | file.data[at + 3];
        if (length < 2 || length > file.size - at - 2) return false;
        const Payload part{file.data + at + 4, length - 2};
        if (marker == 0xDA) return !header.reads_exif();
        const bool frame = marker >= 0xC0 && marker <= 0xC2;
        const bool table = marker == 0xC4 || marker == 0xDB || marker == 0xDD || marker == 0xFE;
        const bool application = marker >= 0xE0 && marker <= 0xEF;
        if (!frame && !table && !application) return false;
        if (frame && !frame_is_read(part)) return false;
        if (application && !header.application(marker & 15, part)) return false;
        at += 2 + length;
    }
    return false;
}

}  // namespace turbo
