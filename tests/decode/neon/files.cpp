// A JPEG file: the whole image, then crops that are resized by every filter.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "checks.h"
#include "resizer.h"

namespace checks {
namespace {

Buffer content(const char* path) {
    Buffer bytes;
    std::FILE* const file = std::fopen(path, "rb");
    if (!file) std::exit(3);
    std::uint8_t some[4096];
    while (const std::size_t count = std::fread(some, 1, sizeof(some), file)) bytes.insert(bytes.end(), some, some + count);
    std::fclose(file);
    return bytes;
}

// One crop: a box of the image, the size it gets, and the part of the result that is made.
struct Crop {
    turbo::Box box;
    turbo::Resizer::Size size;
    turbo::Box window;
    turbo::Filter filter;
};

Crop whole(int width, int height, int divisor) {
    const int out_width = (width + divisor - 1) / divisor, out_height = (height + divisor - 1) / divisor;
    return {{0, 0, width, height}, {out_width, out_height}, {0, 0, out_width, out_height}, turbo::Filter::bilinear};
}

Crop random_crop(int width, int height, int n, Random& random) {
    const int left = random.below(width), top = random.below(height);
    const turbo::Box box{left, top, 1 + random.below(width - left), 1 + random.below(height - top)};
    const turbo::Resizer::Size size{1 + random.below(80), 1 + random.below(80)};
    const int x = random.below(size.width), y = random.below(size.height);
    return {box, size, {x, y, 1 + random.below(size.width - x), 1 + random.below(size.height - y)}, turbo::Filter(n % 6)};
}

class Image {
public:
    explicit Image(const Buffer& file) : bytes_{file.data(), file.size()} {}
    turbo::Status open() { return decoder_.open(bytes_, {std::int64_t(1) << 30}); }
    int width() const { return decoder_.width(); }
    int height() const { return decoder_.height(); }

    turbo::Status make(turbo::Simd simd, const Crop& crop, Buffer& out) {
        turbo::use_simd(simd);
        if (!resizer_.prepare({crop.box.width, crop.box.height}, crop.size, crop.window, crop.filter)) {
            return turbo::Status::memory;
        }
        turbo::Box need = resizer_.source();
        need.left += crop.box.left;
        need.top += crop.box.top;
        out.assign(std::size_t(3) * std::size_t(crop.window.width) * std::size_t(crop.window.height), 0);
        const auto status = decoder_.decode(need, resizer_);
        if (status == turbo::Status::done) resizer_.finish(out.data(), std::ptrdiff_t(3) * crop.window.width);
        return status;
    }

private:
    turbo::Bytes bytes_;
    turbo::Decoder decoder_;
    turbo::Resizer resizer_;
};

// The status, and the checksum of the pixels.
turbo::Status compare(Image& image, const char* name, const Crop& crop, Checksum& sum) {
    Buffer scalar, vector;
    const auto status = image.make(turbo::Simd::scalar, crop, scalar);
    if (image.make(turbo::best_simd(), crop, vector) != status) {
        std::printf("%s: another status in vector code\n", name);
        std::exit(1);
    }
    if (status != turbo::Status::done) return status;
    expect_equal(name, scalar.data(), vector.data(), scalar.size());
    sum.add(vector.data(), vector.size());
    return status;
}

}  // namespace

// Prints the name, the status, and checksums: of the image, of the image at half its size, and of all crops.
void check_file(const char* path) {
    const char* const slash = std::strrchr(path, '/');
    const char* const name = slash ? slash + 1 : path;
    const Buffer file = content(path);
    Image image(file);
    auto status = image.open();
    Checksum sums[3];
    if (status == turbo::Status::done) {
        const int width = image.width(), height = image.height();
        Random random(std::uint64_t(width) * 65536 + std::uint64_t(height));
        status = compare(image, name, whole(width, height, 1), sums[0]);
        compare(image, name, whole(width, height, 2), sums[1]);
        for (int n = 0; n < 24; ++n) compare(image, name, random_crop(width, height, n, random), sums[2]);
    }
    std::printf("%s %s %08x %08x %08x\n", name, turbo::kStatusNames[int(status)], unsigned(sums[0].value()),
                unsigned(sums[1].value()), unsigned(sums[2].value()));
}

}  // namespace checks
