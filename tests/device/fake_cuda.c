/* libcuda's symbols, as far as fastpipe calls them: checks what it is given, does nothing, writes it down.

   Compiled by fake_gpu.py. The log has one line per call; torch's side of the work is noted in the same log
   by `fake_note`, so that copies, events and launches stand in the order in which they were asked for. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
       INVALID_PTX = 218, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700 };

#define MOST_PARAMETERS 64
struct module { void *context; char entry[256]; int count; int size[MOST_PARAMETERS]; };

static char *text; static size_t used, room;
static int initialised; static char failing[64]; static int failing_code;
static __thread void *current; static __thread int capture_mode;

static void put(const char *line) {
    size_t length = strlen(line);
    if (used + length + 2 > room) { room = 2 * (used + length + 2); text = realloc(text, room); }
    memcpy(text + used, line, length); used += length; text[used++] = '\n'; text[used] = 0;
}
const char *fake_log(void) { return text ? text : ""; }
void fake_note(const char *line) { put(line); }
void fake_forget(void) { used = 0; if (text) text[0] = 0; failing[0] = 0; }
/* The next call of this name fails. */
void fake_fail(const char *name, int code) { snprintf(failing, sizeof failing, "%s", name); failing_code = code; }
/* This thread has no context and takes part in captures, as a new one. */
void fake_new_thread(void) { current = NULL; capture_mode = 0; }

static int refused(const char *name) {
    char line[128];
    if (strcmp(failing, name)) return 0;
    failing[0] = 0;
    snprintf(line, sizeof line, "failed %s %d", name, failing_code); put(line);
    return failing_code;
}
#define CALL(name) do { int code_ = refused(name); if (code_) return code_; } while (0)

int cuGetErrorString(int code, const char **words) {
    switch (code) {
    case OUT_OF_MEMORY: *words = "out of memory"; return 0;
    case INVALID_PTX: *words = "a PTX JIT compilation failed"; return 0;
    case ILLEGAL_ADDRESS: *words = "an illegal memory access was encountered"; return 0;
    }
    *words = NULL; return INVALID_VALUE;
}
int cuDriverGetVersion(int *version) { CALL("cuDriverGetVersion"); *version = 13000; return 0; }
int cuInit(unsigned flags) { CALL("cuInit"); if (flags) return INVALID_VALUE; initialised = 1; put("cuInit"); return 0; }
int cuDeviceGet(int *device, int ordinal) {
    CALL("cuDeviceGet");
    if (!initialised) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal > 1) return INVALID_DEVICE;
    *device = ordinal; return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    char line[64];
    CALL("cuDevicePrimaryCtxRetain");
    *context = (void *)(uintptr_t)(0x1000 + device);
    snprintf(line, sizeof line, "retain %d", device); put(line);
    return 0;
}
int cuCtxGetCurrent(void **context) { CALL("cuCtxGetCurrent"); *context = current; return 0; }
int cuCtxSetCurrent(void *context) { CALL("cuCtxSetCurrent"); current = context; return 0; }
int cuThreadExchangeStreamCaptureMode(int *mode) {
    int before = capture_mode; char line[64];
    CALL("cuThreadExchangeStreamCaptureMode");
    if (*mode < 0 || *mode > 2) return INVALID_VALUE;
    capture_mode = *mode; *mode = before;
    snprintf(line, sizeof line, "capture_mode %d", capture_mode); put(line);
    return 0;
}

/* The name of the only kernel and the sizes of its parameters, out of the PTX itself. */
static int parse(const char *ptx, struct module *module) {
    const char *entry = strstr(ptx, ".entry"), *end, *at;
    if (!strstr(ptx, ".version") || !strstr(ptx, ".target sm_") || !entry) return INVALID_PTX;
    if (sscanf(entry + 6, " %255[^( \n]", module->entry) != 1 || !(end = strchr(entry, ')'))) return INVALID_PTX;
    for (at = strstr(entry, ".param"); at && at < end; at = strstr(at + 6, ".param")) {
        const char *kind = strpbrk(at + 7, "usb");
        while (kind && kind < end && !strchr("0123456789", kind[1])) kind = strpbrk(kind + 1, "usb");
        if (!kind || kind > end || module->count == MOST_PARAMETERS) return INVALID_PTX;
        module->size[module->count++] = atoi(kind + 1) / 8;
    }
    return 0;
}
int cuModuleLoadData(void **module, const void *image) {
    struct module *made; int code; char line[320];
    CALL("cuModuleLoadData");
    if (!current) return INVALID_CONTEXT;
    made = calloc(1, sizeof *made); made->context = current;
    code = parse(image, made);
    if (code) { free(made); return code; }
    snprintf(line, sizeof line, "load %s %d", made->entry, made->count); put(line);
    *module = made; return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    CALL("cuModuleGetFunction");
    if (!module) return INVALID_HANDLE;
    if (strcmp(((struct module *)module)->entry, name)) return NOT_FOUND;
    *function = module; return 0;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    struct module *module = function; char line[4096]; int place, length;
    CALL("cuLaunchKernel");
    if (!module || !parameters || extra || shared) return INVALID_VALUE;
    if (module->context != current) return INVALID_CONTEXT;
    if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if (!bx || !by || !bz || bx > 1024 || by > 1024 || bz > 64 || (uint64_t)bx * by * bz > 1024) return INVALID_VALUE;
    length = snprintf(line, sizeof line, "launch %llu %s %u,%u,%u %u,%u,%u", (unsigned long long)(uintptr_t)stream,
                      module->entry, gx, gy, gz, bx, by, bz);
    for (place = 0; place < module->count; place++) {
        uint64_t value = 0;
        if (!parameters[place]) return INVALID_VALUE;
        memcpy(&value, parameters[place], module->size[place]);  /* little-endian, as every machine with CUDA */
        length += snprintf(line + length, sizeof line - length, " %c%llu", module->size[place] == 8 ? 'p' : 'n',
                           (unsigned long long)value);
    }
    put(line); return 0;
}
