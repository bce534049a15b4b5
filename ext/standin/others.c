/* What a real library exports and a tool that only reads has no business with: creating, changing, repairing disks, and
 * the older ways in. Each call is a breach, and does nothing. */
#define _GNU_SOURCE
#include "standin.h"

/* Arguments are the caller's to clean up, so none need be declared. */
#define STANDIN_OTHER(name)                                                                                            \
    __attribute__((visibility("default"))) VixError VixDiskLib_##name(void);                                          \
    VixError VixDiskLib_##name(void) {                                                                                 \
        Entered in;                                                                                                    \
        enter(&in, CALL_##name);                                                                                       \
        breach(in.call, "not for a tool that only reads");                                                             \
        return failure(E_NOT_SUPPORTED);                                                                               \
    }
STANDIN_OTHERS(STANDIN_OTHER)
