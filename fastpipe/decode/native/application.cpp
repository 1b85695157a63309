// Application segments and what they say about colour.
#include "segment.h"

namespace turbo {
namespace {

// Pillow walks through the resource blocks of Photoshop, and fails where the length of a name is missing.
bool pillow_reads_photoshop(const std::uint8_t* data, std::size_t size) {
    std::size_t at = 14;
    while (size - at >= 4 && std::memcmp(data + at, "8BIM", 4) == 0) {
        at += 6;
        if (at >= size) return at > size;
        at += std::size_t(1) + data[at];
        at += at & 1;
        if (at + 4 > size) return true;
        const std::size_t length = std::size_t(data[at]) << 24 | std::size_t(data[at + 1]) << 16 |
                                   std::size_t(data[at + 2]) << 8 | data[at + 3];
        at += 4;
        if (length > size - at) return true;
        at += length;
        at += at & 1;
        if (at > size) return true;
    }
    return true;
}

}  // namespace

// Also what makes Pillow's own reading of application segments stop with an error is refused here.
Status Markers::application(int marker, const Segment& content) noexcept {
    if (marker == APP0 && content.starts("JFIF", 4)) {
        if (content.size < 7) return Status::irregular;
        if (content.size >= 14 && content.data[4] == 0) has_jfif_ = true;
    } else if (marker == APP14 && content.starts("Adobe", 5)) {
        if (content.size < 7) return Status::irregular;
        if (content.size >= 12) {
            has_adobe_ = true;
            adobe_transform_ = content.data[11];
        }
    } else if (marker == APP2 && content.starts("ICC_PROFILE", 12)) {
        if (content.size < 14) return Status::irregular;
    } else if (marker == APP13 && content.starts("Photoshop 3.0", 14)) {
        if (!pillow_reads_photoshop(content.data, content.size)) return Status::irregular;
    }
    return Status::done;
}

// libjpeg's default_decompress_parms (jdapimin.c).
void Markers::choose_colour() noexcept {
    auto& h = header_;
    const auto* c = h.components;
    if (h.count == 1) {
        h.colour = Colour::grey;
    } else if (has_jfif_) {
        h.colour = Colour::ycc;
    } else if (has_adobe_) {
        h.colour = adobe_transform_ == 0 ? Colour::rgb : Colour::ycc;
    } else {
        h.colour = c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B' ? Colour::rgb : Colour::ycc;
    }
}

}  // namespace turbo
