// Progressive files: all scans are read into coefficients, then the region alone is transformed.
#pragma once
#include "coefficients.h"
#include "huffman.h"
#include "rows.h"
#include "scan.h"

namespace turbo {

// What a Decoder keeps from image to image and both processes use.
struct Workshop {
    Markers markers;
    HuffmanTables tables;
    ScanData scan;
    RowMaker rows;
    Coefficients coefficients;  // of progressive files
};

// `file` was opened by workshop.markers, whose first scan's header was read; they stay there. `region` lies inside
// the image.
Status decode_progressive(Workshop& workshop, Bytes file, const Box& region, Simd simd, RowSink& sink) noexcept;

}  // namespace turbo
