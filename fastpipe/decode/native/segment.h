// A segment of a file, and the markers that start one.
#pragma once
#include <cstring>

#include "markers.h"

namespace turbo {

enum Marker : int {
    SOF0 = 0xC0,
    SOF2 = 0xC2,
    DHT = 0xC4,
    DAC = 0xCC,
    SOF15 = 0xCF,
    RST0 = 0xD0,
    SOI = 0xD8,
    EOI = 0xD9,
    SOS = 0xDA,
    DQT = 0xDB,
    DRI = 0xDD,
    APP0 = 0xE0,
    APP2 = 0xE2,
    APP13 = 0xED,
    APP14 = 0xEE,
    APP15 = 0xEF,
    COM = 0xFE,
};

// The content of a segment, without its length.
struct Markers::Segment {
    const std::uint8_t* data;
    std::size_t size;

    int word(std::size_t at) const { return data[at] << 8 | data[at + 1]; }
    bool starts(const char* text, std::size_t length) const {
        return size >= length && std::memcmp(data, text, length) == 0;
    }
};

}  // namespace turbo
