// CPU time of the resize alone, called from benchmarks/turbo_cpu.py between two of Pillow's.
#include <cstring>
#include <ctime>

#include "resizer.h"

extern "C" double resize_ms(const unsigned char* rgbx, int width, int height, int side, int filter, int times,
                            unsigned char* out) {
    static turbo::Resizer resizer;
    timespec begin, end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    for (int i = 0; i < times; ++i) {
        if (!resizer.prepare({width, height}, {side, side}, {0, 0, side, side}, turbo::Filter(filter))) return -1;
        for (int y = 0; y < height; ++y) {
            std::memcpy(resizer.row(y), rgbx + std::size_t(4) * width * y, std::size_t(4) * width);
            resizer.written(y);
        }
        resizer.finish(out, std::ptrdiff_t(3) * side);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (1e3 * double(end.tv_sec - begin.tv_sec) + 1e-6 * double(end.tv_nsec - begin.tv_nsec)) / times;
}
