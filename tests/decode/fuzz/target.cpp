// What libFuzzer runs: some bytes that choose the work, then the bytes of a file. Built by scripts/fuzz.
// AddressSanitizer and UndefinedBehaviorSanitizer watch; this file adds what they cannot know: rows come in order,
// each once, and a crop has the pixels of the whole image, whatever the instruction set.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "decoder.h"
#include "image.h"

namespace {

using namespace turbo;

constexpr std::int64_t max_pixels = 4096;  // small images are fast: the loops do not change beyond some MCUs
constexpr int max_out = 40;

struct Choice {
    std::uint8_t mode, left, top, width, height, filter, out_width, out_height;
    bool avx2() const { return mode & 1; }
    bool compares() const { return mode & 2; }
    bool resizes() const { return mode & 4; }
    bool makes() const { return mode & 8; }
    bool other_order() const { return filter & 64; }
    bool fast() const { return filter & 128; }
    int shrink() const { return fast() ? 1 << (filter / 8 % 4) : 1; }
};

void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "finding: %s\n", what);
    std::abort();
}

// Each row lies in memory of its own, so that a byte too much is seen.
class Rows final : public RowSink {
public:
    explicit Rows(const Box& box) : box_(box), rows_(std::size_t(box.height)) {}
    std::uint8_t* row(int y) noexcept override {
        expect(y == asked_ && y < box_.height, "rows must come in order");
        ++asked_;
        auto& row = rows_[std::size_t(y)];
        row.reset(new std::uint8_t[std::size_t(box_.width) * 4 + 32]);
        return row.get();
    }
    void written(int y) noexcept override {
        expect(y >= written_ && y < asked_, "a row is written that was not asked for");
        written_ = y + 1;
    }
    bool complete() const { return written_ == box_.height; }
    const std::uint8_t* pixel(int x, int y) const { return &rows_[std::size_t(y)][std::size_t(x) * 4]; }

private:
    Box box_;
    std::vector<std::unique_ptr<std::uint8_t[]>> rows_;
    int asked_ = 0, written_ = 0;
};

Box region_of(const Choice& choice, int width, int height) {
    const int left = choice.left * width / 256, top = choice.top * height / 256;
    return {left, top, 1 + choice.width * (width - left) / 256, 1 + choice.height * (height - top) / 256};
}

int smaller(int side, int shrink) { return (side + shrink - 1) / shrink; }

void compare(Decoder& decoder, int shrink, const Box& box, const Rows& crop, Status status) {
    const Box whole{0, 0, smaller(decoder.width(), shrink), smaller(decoder.height(), shrink)};
    Rows all(whole);
    const auto other = decoder.decode(whole, all, shrink);
    // Only below the crop may a file be damaged and the crop be good.
    expect(status == Status::done || other != Status::done, "a crop of a good image is refused");
    if (status != Status::done || other != Status::done) return;
    expect(all.complete(), "rows of the whole image are missing");
    for (int y = 0; y < box.height; ++y) {
        for (int x = 0; x < box.width; ++x) {
            const bool same = !std::memcmp(crop.pixel(x, y), all.pixel(box.left + x, box.top + y), 3);
            expect(same, "a crop differs from the whole image");
        }
    }
}

std::vector<std::uint8_t> resized(Decoder& decoder, Resizer& resizer, const Box& box, const Choice& choice) {
    const Resizer::Size out{1 + choice.out_width % max_out, 1 + choice.out_height % max_out};
    const int left = choice.left % out.width, top = choice.top % out.height;
    const Box asked{left, top, 1 + choice.width % (out.width - left), 1 + choice.height % (out.height - top)};
    expect(resizer.prepare({box.width, box.height}, out, asked, Filter(choice.filter % 6), choice.other_order()),
           "no memory");
    const Box need = resizer.source();
    const Box part{box.left + need.left, box.top + need.top, need.width, need.height};
    if (decoder.decode(part, resizer) != Status::done) return {};
    std::vector<std::uint8_t> pixels(std::size_t(asked.width) * std::size_t(asked.height) * 3);
    resizer.finish(pixels.data(), std::ptrdiff_t(3) * asked.width);
    return pixels;
}

// Any step that the bindings let pass, of small sizes.
Step step_of(const Choice& choice) {
    Step step{};
    step.where = Where(choice.left % 4);
    step.filter = choice.filter % 6;
    step.tall_rows_first = choice.other_order();
    step.fast = choice.fast();
    const bool crops = step.where == Where::resized_crop || choice.top % 4;
    step.out_height = crops ? 1 + choice.out_height % max_out : 0;
    step.out_width = crops ? 1 + choice.out_width % max_out : 0;
    step.resize_height = choice.height % max_out;
    step.resize_width = step.resize_height && choice.height & 64 ? 1 + choice.width % max_out : 0;
    step.scale_low = double(1 + choice.width) / 512;
    step.scale_high = step.scale_low * (1 + choice.height);
    step.ratio_low = double(1 + choice.top) / 128;
    step.ratio_high = step.ratio_low * (1 + choice.height);
    step.log_low = std::log(step.ratio_low);
    step.log_high = std::log(step.ratio_high);
    for (int i = 0; i < 4; ++i) step.padding[i] = choice.width >> 2 * i & 3;
    return step;
}

std::vector<std::uint8_t> made(ImageMaker& maker, const Choice& choice, Bytes file) {
    const Step step = step_of(choice);
    double uniforms[kCropUniforms];
    unsigned state = choice.width * 256u + choice.height;
    for (auto& uniform : uniforms) {
        state = state * 1664525u + 1013904223u;
        uniform = double(state) / 4294967296.0;
    }
    int height = 0, width = 0;
    if (maker.measure(file, {}, step, uniforms, {max_pixels}, height, width) != Status::done) return {};
    std::vector<std::uint8_t> pixels(std::size_t(height) * std::size_t(width) * 3);
    Seconds seconds{};
    const auto status = maker.make(file, {}, step, uniforms, {max_pixels}, {pixels.data(), height, width}, seconds);
    if (status != Status::done) return {};
    return pixels;
}

// Kept from input to input, as the loader's threads keep them: what one image leaves may harm the next.
struct Tools {
    Decoder decoder;
    Resizer resizer;
    ImageMaker maker;
};

void decode_crop(Decoder& decoder, const Choice& choice) {
    const int shrink = choice.shrink();
    const Box box = region_of(choice, smaller(decoder.width(), shrink), smaller(decoder.height(), shrink));
    Rows rows(box);
    const auto status = decoder.decode(box, rows, shrink);
    expect(status != Status::done || rows.complete(), "rows are missing");
    if (!choice.compares()) return;
    use_simd(choice.avx2() ? Simd::scalar : best_simd());
    compare(decoder, shrink, box, rows, status);
}

std::vector<std::uint8_t> pixels_of(Tools& tools, const Choice& choice, const Box& box, Bytes file) {
    return choice.makes() ? made(tools.maker, choice, file) : resized(tools.decoder, tools.resizer, box, choice);
}

void work(Tools& tools, const Choice& choice, Bytes file) {
    use_simd(choice.avx2() ? best_simd() : Simd::scalar);
    if (tools.decoder.open(file, {max_pixels}) != Status::done) return;
    if (!choice.makes() && !choice.resizes()) return decode_crop(tools.decoder, choice);
    const Box box = region_of(choice, tools.decoder.width(), tools.decoder.height());
    const auto pixels = pixels_of(tools, choice, box, file);
    if (!choice.compares()) return;
    use_simd(choice.avx2() ? Simd::scalar : best_simd());
    expect(pixels == pixels_of(tools, choice, box, file), "the pixels depend on the instruction set");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Tools tools;
    Choice choice;
    if (size < sizeof choice) return 0;
    std::memcpy(&choice, data, sizeof choice);
    work(tools, choice, {data + sizeof choice, size - sizeof choice});
    return 0;
}
