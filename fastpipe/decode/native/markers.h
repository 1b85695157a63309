// The segments of a JPEG file: what libjpeg and Pillow both read without a word, and nothing else.
#pragma once
#include "decoder.h"

namespace turbo {

constexpr int max_components = 3;
constexpr int max_side = 65500;       // JPEG_MAX_DIMENSION
constexpr int max_blocks_in_mcu = 10;  // D_MAX_BLOCKS_IN_MCU

enum class Process : std::uint8_t { baseline, progressive };
enum class Colour : std::uint8_t { grey, ycc, rgb };

struct QuantTable {
    bool present;
    std::uint16_t values[64];  // row by row, not in zigzag order
};

struct HuffmanSpec {
    bool present;
    std::uint8_t counts[16];   // codes of 1 to 16 bits
    std::uint8_t values[256];  // symbols; 0 after the last
    int size;                  // how many
};

struct Component {
    int id, h, v, quant;
    int width, height;              // samples: the image's size times h / max_h, rounded up
    int blocks_wide, blocks_high;   // that cover them: a scan of this component alone has these
};

struct Scan {
    int count;
    int component[max_components];  // indices into Header::components, rising
    int dc[max_components], ac[max_components];
    int first, last;                // spectral selection
    int high, low;                  // successive approximation
};

struct Header {
    int width, height, count;       // count of components: 1 or 3
    Process process;
    Colour colour;
    int max_h, max_v;               // 1, 1 for one component, as libjpeg treats it
    int mcus_wide, mcus_high;       // of a scan of all components
    Component components[max_components];
    QuantTable quant[4];            // as they stand before `scan`
    HuffmanSpec dc[4], ac[4];
    int restart_interval;
    Scan scan;                      // the one whose header was read last
};

// Reads segments up to a scan, then, for progressive files, on from the end of that scan.
class Markers {
public:
    Status open(Bytes bytes, const Limits& limits) noexcept;
    // Go on at `position`, where a marker must be. `at_end` tells whether it was EOI, else a scan follows.
    Status next_scan(std::size_t position, bool& at_end) noexcept;
    const Header& header() const noexcept { return header_; }
    std::size_t scan_data() const noexcept { return position_; }  // the first byte after the scan's header

private:
    struct Segment;
    Status until_scan(bool& at_end) noexcept;
    Status segment(int marker, const Segment& segment) noexcept;
    Status frame(int marker, const Segment& segment) noexcept;
    Status geometry() noexcept;
    Status quant_tables(const Segment& segment) noexcept;
    Status huffman_tables(const Segment& segment) noexcept;
    Status scan(const Segment& segment) noexcept;
    Status application(int marker, const Segment& segment) noexcept;
    void choose_colour() noexcept;

    Bytes bytes_{};
    Limits limits_{};
    std::size_t position_ = 0;
    Header header_{};
    bool has_frame_ = false, has_jfif_ = false, has_adobe_ = false;
    int adobe_transform_ = 0;
};

extern const std::uint8_t zigzag[64 + 16];  // place k of a scan -> row by row; places past the 63rd give 63

}  // namespace turbo
