/* The library's functions as a table of pointers, and its log; owns dlsym and the three callbacks of InitEx.
 *
 * The callbacks come on any of the library's threads, so they format on their stack and write one line to a pipe.
 */
#ifndef WARMSPARE_VDDK_API_H
#define WARMSPARE_VDDK_API_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vixdisklib.h"

#define VDDK_PANIC_STATUS 86 /* the exit status of a reader whose library panicked */

struct vddk_api {
#define VDDK_MEMBER(result, name, arguments) result(*name) arguments;
    VIXDISKLIB_REQUIRED(VDDK_MEMBER)
    VIXDISKLIB_OPTIONAL(VDDK_MEMBER)
#undef VDDK_MEMBER
};

/* Look every function up. `missing` hears the name of each that is not there. */
static inline void vddk_resolve(struct vddk_api *api, void *library, void (*missing)(void *, const char *, int),
                                void *context) {
#define VDDK_LOOK_UP(name, required)                                                                                   \
    {                                                                                                                  \
        void *symbol = dlsym(library, "VixDiskLib_" #name);                                                            \
        memcpy(&api->name, &symbol, sizeof symbol);                                                                    \
        if (!symbol)                                                                                                   \
            missing(context, "VixDiskLib_" #name, required);                                                           \
    }
#define VDDK_REQUIRED(result, name, arguments) VDDK_LOOK_UP(name, 1)
#define VDDK_OPTIONAL(result, name, arguments) VDDK_LOOK_UP(name, 0)
    VIXDISKLIB_REQUIRED(VDDK_REQUIRED)
    VIXDISKLIB_OPTIONAL(VDDK_OPTIONAL)
#undef VDDK_OPTIONAL
#undef VDDK_REQUIRED
#undef VDDK_LOOK_UP
}

static int vddk_log_fd = 2;

/* One line, in one write: a level, a space, the text without control characters. A full pipe loses the line: logging
 * must never block the library. */
static inline void vddk_write_line(char level, const char *format, va_list arguments) {
    char line[1024];
    size_t size = sizeof line - 1;
    line[0] = level;
    line[1] = ' ';
    int count = vsnprintf(line + 2, size - 2, format ? format : "(no text)", arguments);
    if (count < 0)
        return;
    size_t end = 2 + ((size_t)count < size - 3 ? (size_t)count : size - 3);
    while (end > 2 && (line[end - 1] == '\n' || line[end - 1] == ' '))
        end--;
    for (size_t i = 2; i < end; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = ' ';
    line[end++] = '\n';
    ssize_t written = write(vddk_log_fd, line, end);
    (void)written;
}

static inline void vddk_log(const char *format, va_list arguments) { vddk_write_line('L', format, arguments); }
static inline void vddk_warn(const char *format, va_list arguments) { vddk_write_line('W', format, arguments); }

/* A library that panicked must not go on, and a core file would hold passwords: end at once. */
static inline void vddk_panic(const char *format, va_list arguments) {
    vddk_write_line('P', format, arguments);
    _exit(VDDK_PANIC_STATUS);
}

static inline VixError vddk_init(const struct vddk_api *api, uint32_t major, uint32_t minor, int log_fd,
                                 const char *directory, const char *config) {
    vddk_log_fd = log_fd;
    return api->InitEx(major, minor, vddk_log, vddk_warn, vddk_panic, directory, config);
}

#endif
