// What became of one image. Every other value than `done` hands the image to Pillow, which decides.
#pragma once
#include <cstdint>

namespace turbo {

enum class Status : std::uint8_t {
    done = 0,
    unreadable,        // the file could not be opened or read
    not_jpeg,          // no JPEG, or a header that does not parse
    components,        // neither 1 nor 3 components (CMYK, two, four)
    process,           // arithmetic, lossless, hierarchical, 12 bit
    sampling,          // sampling factors that libjpeg upsamples in a way we do not have
    scans,             // a baseline file of several scans
    incomplete,        // a progressive file that lacks scans: libjpeg smooths it
    irregular,         // damaged, or any other departure from the standard
    truncated,         // the end marker does not follow the scan
    too_large,         // more pixels than `Limits` allows
    crop,              // a crop that does not fit the image
    memory,            // no memory, or a resize beyond our bounds
    table,             // another size than the storage's table says
    metadata,          // segments that Pillow might refuse or warn about: it reads the header first
};

// In the order of the enum.
constexpr const char* kStatusNames[] = {
    "done",       "unreadable", "not_jpeg",  "components", "process", "sampling", "scans",
    "incomplete", "irregular",  "truncated", "too_large",  "crop",    "memory",   "table",
    "metadata",
};
static_assert(sizeof(kStatusNames) / sizeof(*kStatusNames) == int(Status::metadata) + 1, "a name for each");

}  // namespace turbo
