#include "decoder.h"

#include <atomic>
#include <new>

#include "baseline.h"

namespace turbo {
namespace {

std::atomic<Simd> chosen{best_simd()};

}  // namespace

struct Decoder::State {
    Workshop shop;
    Bytes file{};
    bool opened = false;
};

Decoder::Decoder() : state_(new (std::nothrow) State) {}
Decoder::~Decoder() { delete state_; }

Status Decoder::open(Bytes bytes, const Limits& limits) noexcept {
    if (!state_) return Status::memory;
    state_->file = bytes;
    const auto status = state_->shop.markers.open(bytes, limits);
    state_->opened = status == Status::done;
    return status;
}

int Decoder::width() const noexcept { return state_ ? state_->shop.markers.header().width : 0; }
int Decoder::height() const noexcept { return state_ ? state_->shop.markers.header().height : 0; }
bool Decoder::progressive() const noexcept {
    return state_ && state_->shop.markers.header().process == Process::progressive;
}

Status Decoder::decode(const Box& region, RowSink& sink, int shrink) noexcept {
    if (!state_) return Status::memory;
    if (!state_->opened) return Status::not_jpeg;
    const View view{region, shrink, used_simd()};
    if (progressive()) return decode_progressive(state_->shop, state_->file, view, sink);
    return decode_baseline(state_->shop, state_->file, view, sink);
}

void Decoder::trim() noexcept {
    if (!state_) return;
    state_->shop.scan.trim();
    state_->shop.rows.trim();
    state_->shop.coefficients.trim();
}

Simd best_simd() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) {
        return Simd::avx2;
    }
#elif defined(__aarch64__)
    return Simd::neon;
#endif
    return Simd::scalar;
}

void use_simd(Simd simd) noexcept {
    if (simd == Simd::scalar || simd == best_simd()) chosen.store(simd, std::memory_order_relaxed);
}

Simd used_simd() noexcept { return chosen.load(std::memory_order_relaxed); }

}  // namespace turbo
