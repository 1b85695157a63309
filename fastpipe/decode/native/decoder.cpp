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

static Simd chosen = Simd::avx2;
Simd best_simd() noexcept { return Simd::avx2; }
void use_simd(Simd s) noexcept {chosen=s;}
Simd used_simd() noexcept { return chosen; }

}  // namespace turbo
