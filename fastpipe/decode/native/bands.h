// The entropy-coded data of progressive scans, for some blocks in a row (T.81, annex G).
#pragma once
#include "bits.h"
#include "decoder.h"
#include "huffman.h"

namespace turbo {

// Where the reading of one segment of a scan stands.
struct BandStream {
    Bits bits;
    const std::uint8_t* end;  // of the segment
    unsigned run = 0;         // blocks still to come in which the band has ended
    int dc[max_components] = {0, 0, 0};

    BandStream(const std::uint8_t* from, const std::uint8_t* to) noexcept : bits(from), end(to) {}
};

struct Band {
    const Huffman* table;
    int first, last, low;
};

// `count` blocks whose maps lie at `nonzero`; `values` is null where they are not kept. False where the data are
// irregular.
using BandReader = bool (*)(BandStream&, const Band&, int count, std::uint64_t* nonzero, std::int16_t* values);

struct BandReaders {
    BandReader first, refine;
};

BandReaders band_readers(Simd simd) noexcept;

// The first bits of a DC value, as libjpeg keeps them; false where they are irregular.
bool read_dc(BandStream& stream, const Huffman& table, int component, int low, std::int16_t& value) noexcept;

}  // namespace turbo
