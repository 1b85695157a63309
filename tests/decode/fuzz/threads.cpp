// Several threads decode and resize the same files, each with a decoder of its own: for ThreadSanitizer.
// Built by scripts/fuzz; the arguments are files of the corpus.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "decoder.h"
#include "resizer.h"

namespace {

using namespace turbo;
using File = std::vector<std::uint8_t>;

constexpr std::size_t head = 8;  // what target.cpp chooses its work by
constexpr int num_threads = 4;

class Rows final : public RowSink {
public:
    explicit Rows(int width) : bytes_(std::size_t(width) * 4 + 32) {}
    std::uint8_t* row(int) noexcept override { return bytes_.data(); }
    void written(int) noexcept override {}

private:
    std::vector<std::uint8_t> bytes_;
};

void decode_all(const std::vector<File>& files, int thread, std::size_t& done) {
    Decoder decoder;
    Resizer resizer;
    for (std::size_t i = 0; i < files.size(); ++i) {
        const auto& file = files[(i + std::size_t(thread) * 7) % files.size()];
        if (file.size() < head) continue;
        if (i % 64 == 0) use_simd(i % 128 ? Simd::scalar : best_simd());
        if (decoder.open({file.data() + head, file.size() - head}, {1 << 20}) != Status::done) continue;
        const Box whole{0, 0, decoder.width(), decoder.height()};
        Rows rows(whole.width);
        if (decoder.decode(whole, rows) != Status::done) continue;
        ++done;
        if (!resizer.prepare({whole.width, whole.height}, {24, 24}, {0, 0, 24, 24}, Filter::bilinear)) continue;
        decoder.decode(whole, resizer);
        std::vector<std::uint8_t> pixels(24 * 24 * 3);
        resizer.finish(pixels.data(), 24 * 3);
    }
}

}  // namespace

int main(int count, char** names) {
    std::vector<File> files;
    for (int i = 1; i < count; ++i) {
        std::ifstream stream(names[i], std::ios::binary);
        files.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    }
    std::vector<std::thread> threads;
    std::vector<std::size_t> done(num_threads);
    for (int t = 0; t < num_threads; ++t) {
        threads.emplace_back([&files, &done, t] { decode_all(files, t, done[std::size_t(t)]); });
    }
    for (auto& thread : threads) thread.join();
    std::printf("%zu files, decoded by each thread:", files.size());
    for (const auto number : done) std::printf(" %zu", number);
    std::printf("\n");
    return done[0] ? 0 : 1;
}
