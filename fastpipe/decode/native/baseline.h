// Baseline files: one scan of all components, decoded in the region and skipped outside of it.
#pragma once
#include "progressive.h"

namespace turbo {

// As decode_progressive().
Status decode_baseline(Workshop& workshop, Bytes file, const View& view, RowSink& sink) noexcept;

}  // namespace turbo
