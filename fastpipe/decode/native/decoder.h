// From the bytes of a JPEG to RGB rows of one region, with libjpeg-turbo's pixels (islow, fancy upsampling).
#pragma once
#include <cstddef>
#include <cstdint>

#include "status.h"

namespace turbo {

struct Box {
    int left, top, width, height;
};

// Bytes from outside: nothing in them is trusted.
struct Bytes {
    const std::uint8_t* data;
    std::size_t size;
};

struct Limits {
    std::int64_t pixels;  // of a whole image: Pillow's MAX_IMAGE_PIXELS
};

// How many rows may be asked for before the first of them is written.
constexpr int kRowsAhead = 64;

// Takes the rows of a region, top to bottom, each once. RGBX: four bytes a pixel, X is undefined.
class RowSink {
public:
    virtual ~RowSink() = default;
    // Where row `y` of the region goes: region.width * 4 bytes, and 32 more that may be overwritten.
    virtual std::uint8_t* row(int y) noexcept = 0;
    // Rows up to and including `y` are written.
    virtual void written(int y) noexcept = 0;
};

// One thread's decoder. It keeps its memory and its tables from image to image; no exception leaves it.
class Decoder {
public:
    Decoder();
    ~Decoder();
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    // Read the header; `bytes` must live until the last call about this image. Width and height follow.
    Status open(Bytes bytes, const Limits& limits) noexcept;
    int width() const noexcept;
    int height() const noexcept;
    bool progressive() const noexcept;

    // Decode a region that lies inside the image. May be called again after open().
    // On any status but `done` some rows may have been given to the sink.
    // `shrink` 2, 4, 8: the image, and the region in it, are smaller by that (rounded up); its pixels are means of
    // the low frequencies, and nobody else's.
    Status decode(const Box& region, RowSink& sink, int shrink = 1) noexcept;
    void trim() noexcept;  // gives back what an unusual image needed

private:
    struct State;
    State* state_;
};

// Instruction sets: tests and benchmarks choose one, everybody else takes the best.
enum class Simd : std::uint8_t { scalar = 0, avx2 = 1, neon = 2 };
Simd best_simd() noexcept;
void use_simd(Simd simd) noexcept;  // for the whole process; ignored where the machine lacks it
Simd used_simd() noexcept;

}  // namespace turbo
