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

// What is wanted of an image, and with which instructions.
struct View {
    Box region;
    int shrink;
    Simd simd;
};

// `file` was opened by workshop.markers, whose first scan's header was read; they stay there. `region` lies inside
// the image.
Status decode_progressive(Workshop& workshop, Bytes file, const View& view, RowSink& sink) noexcept;

}  // namespace turbo
