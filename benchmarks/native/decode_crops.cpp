// CPU time of decoding random-resized crops: libjpeg-turbo's whole frame, its crop and skip, and ours.
//   decode_crops ROUNDS FILES...     one JSON object: milliseconds an image, round by round
// One thread; the order of the three turns round every time. Built by benchmarks/turbo_cpu.py with the
// system's libjpeg and the native sources; files that ours hands to Pillow are left out and counted.
#include <cstdio>
#include <ctime>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <jpeglib.h>

#include "decoder.h"

using turbo::Box;
using Data = std::vector<std::uint8_t>;

namespace {

struct Image {
    Data bytes;
    Box box;
};

class Rows final : public turbo::RowSink {
public:
    void shape(const Box& box) {
        width_ = std::size_t(box.width) * 4;
        data_.resize(std::max(data_.size(), width_ * box.height + 64));
    }
    std::uint8_t* row(int y) noexcept override { return &data_[width_ * y]; }
    void written(int) noexcept override {}

private:
    std::size_t width_ = 0;
    Data data_;
};

double thread_seconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// torchvision's RandomResizedCrop with its defaults.
Box draw(int width, int height, std::mt19937& random) {
    auto between = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
    for (int attempt = 0; attempt < 10; ++attempt) {
        const double area = double(width) * height * between(0.08, 1.0);
        const double aspect = std::exp(between(std::log(3.0 / 4), std::log(4.0 / 3)));
        const int w = int(std::lround(std::sqrt(area * aspect))), h = int(std::lround(std::sqrt(area / aspect)));
        if (w > 0 && h > 0 && w <= width && h <= height)
            return {int(between(0, width - w + 0.999)), int(between(0, height - h + 0.999)), w, h};
    }
    const int side = std::min(width, height);
    return {(width - side) / 2, (height - side) / 2, side, side};
}

// libjpeg-turbo: all rows of the whole frame, or the box with the neighbours that fancy upsampling needs.
void libjpeg(const Image& image, bool crop, Data& out) {
    jpeg_decompress_struct info;
    jpeg_error_mgr errors;
    info.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, image.bytes.data(), image.bytes.size());
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    JDIMENSION left = 0, width = info.output_width, top = 0, rows = info.output_height;
    if (crop) {
        const Box& box = image.box;
        left = JDIMENSION(std::max(0, box.left - 1));
        width = std::min(info.output_width - left, JDIMENSION(box.width + 2));
        top = JDIMENSION(std::max(0, box.top - 1));
        rows = std::min(info.output_height - top, JDIMENSION(box.height + 2));
        jpeg_crop_scanline(&info, &left, &width);
        if (top) jpeg_skip_scanlines(&info, top);
    }
    out.resize(std::max(out.size(), std::size_t(width) * 3 * rows));
    for (JDIMENSION y = 0; y < rows;) {
        JSAMPROW row = &out[std::size_t(y) * width * 3];
        y += jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_abort_decompress(&info);
    jpeg_destroy_decompress(&info);
}

void print(const char* name, const std::vector<double>& values, const char* end) {
    std::printf("\"%s\": [", name);
    for (std::size_t i = 0; i < values.size(); ++i) std::printf("%s%.5f", i ? ", " : "", values[i]);
    std::printf("]%s", end);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    const int rounds = std::stoi(argv[1]);
    std::mt19937 random(0);
    turbo::Decoder decoder;
    Rows rows;
    std::vector<Image> images;
    int handed = 0;
    for (int i = 2; i < argc; ++i) {
        std::ifstream file(argv[i], std::ios::binary);
        Image image{Data(std::istreambuf_iterator<char>(file), {}), {}};
        bool ours = decoder.open({image.bytes.data(), image.bytes.size()}, {1 << 28}) == turbo::Status::done;
        if (ours) {
            image.box = draw(decoder.width(), decoder.height(), random);
            rows.shape(image.box);
            ours = decoder.decode(image.box, rows) == turbo::Status::done;
        }
        if (ours) images.push_back(std::move(image));
        handed += !ours;
    }
    if (images.empty()) return 1;
    Data out;
    std::vector<double> times[3];
    for (int round = 0; round <= rounds; ++round) {
        for (int turn = 0; turn < 3; ++turn) {
            const int side = round % 2 ? turn : 2 - turn;
            const double began = thread_seconds();
            for (const Image& image : images) {
                if (side < 2) {
                    libjpeg(image, side == 1, out);
                    continue;
                }
                decoder.open({image.bytes.data(), image.bytes.size()}, {1 << 28});
                rows.shape(image.box);
                decoder.decode(image.box, rows);
            }
            if (round) times[side].push_back(1e3 * (thread_seconds() - began) / double(images.size()));
        }
    }
    std::printf("{\"images\": %zu, \"handed_to_pillow\": %d, ", images.size(), handed);
    print("libjpeg_whole", times[0], ", ");
    print("libjpeg_crop", times[1], ", ");
    print("ours", times[2], "}\n");
    return 0;
}
