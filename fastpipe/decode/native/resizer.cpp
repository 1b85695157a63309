#include "resizer.h"

namespace turbo {

struct Resizer::State {};
Resizer::Resizer() : state_(nullptr) {}
Resizer::~Resizer() = default;
bool Resizer::prepare(Size, Size, const Box&, Filter) noexcept { return false; }
Box Resizer::source() const noexcept { return {0, 0, 0, 0}; }
std::uint8_t* Resizer::row(int) noexcept { return nullptr; }
void Resizer::written(int) noexcept {}
void Resizer::finish(std::uint8_t*, std::ptrdiff_t) noexcept {}

}  // namespace turbo
