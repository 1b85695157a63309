#include "decoder.h"

namespace turbo {

struct Decoder::State {};
Decoder::Decoder() : state_(nullptr) {}
Decoder::~Decoder() = default;
Status Decoder::open(Bytes, const Limits&) noexcept { return Status::process; }
int Decoder::width() const noexcept { return 0; }
int Decoder::height() const noexcept { return 0; }
bool Decoder::progressive() const noexcept { return false; }
Status Decoder::decode(const Box&, RowSink&) noexcept { return Status::process; }

Simd best_simd() noexcept { return Simd::scalar; }
void use_simd(Simd) noexcept {}
Simd used_simd() noexcept { return Simd::scalar; }

}  // namespace turbo
