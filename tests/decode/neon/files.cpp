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
    while (const std::size_t count = std::fread(some, 1, sizeof(some), file)) {
        bytes.insert(bytes.end(), some, some + count);
    }
    std::fclose(file);
    return bytes;
}

// One crop: a box of the image, the size it gets, and the part of the result that is made. `shrink`: the box is one
// of the image at 1 / shrink of its size.
struct Crop {
    int shrink;
    turbo::Box box;
    turbo::Resizer::Size size;
    turbo::Box window;
    turbo::Filter filter;
};

int divided(int size, int divisor) { return (size + divisor - 1) / divisor; }

Crop whole(int width, int height, int divisor) {
    const turbo::Resizer::Size size{divided(width, divisor), divided(height, divisor)};
    return {1, {0, 0, width, height}, size, {0, 0, size.width, size.height}, turbo::Filter::bilinear};
}

Crop random_crop(int width, int height, int n, int shrink, Random& random) {
    width = divided(width, shrink);
    height = divided(height, shrink);
    const int left = random.below(width), top = random.below(height);
    const turbo::Box box{left, top, 1 + random.below(width - left), 1 + random.below(height - top)};
    const turbo::Resizer::Size size{1 + random.below(80), 1 + random.below(80)};
    const int x = random.below(size.width), y = random.below(size.height);
    const turbo::Box window{x, y, 1 + random.below(size.width - x), 1 + random.below(size.height - y)};
    return {shrink, box, size, window, turbo::Filter(n % 6)};
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
        const auto status = decoder_.decode(need, resizer_, crop.shrink);
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

// Prints the name, the status, and checksums: of the image, of the image at half its size, of crops, and of crops of
// images that are decoded to fewer pixels.
void check_file(const char* path) {
    const char* const slash = std::strrchr(path, '/');
    const char* const name = slash ? slash + 1 : path;
    const Buffer file = content(path);
    Image image(file);
    auto status = image.open();
    Checksum sums[4];
    if (status == turbo::Status::done) {
        const int width = image.width(), height = image.height();
        Random random(std::uint64_t(width) * 65536 + std::uint64_t(height));
        status = compare(image, name, whole(width, height, 1), sums[0]);
        compare(image, name, whole(width, height, 2), sums[1]);
        for (int n = 0; n < 24; ++n) compare(image, name, random_crop(width, height, n, 1, random), sums[2]);
        for (int n = 0; n < 9; ++n) compare(image, name, random_crop(width, height, n, 2 << n % 3, random), sums[3]);
    }
    std::printf("%s %s", name, turbo::kStatusNames[int(status)]);
    for (const auto& sum : sums) std::printf(" %08x", unsigned(sum.value()));
    std::printf("\n");
}

}  // namespace checks
