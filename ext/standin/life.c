/* The process's life with the library: InitEx, Exit, error texts, transport modes, and the way into every call. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "standin.h"

#ifdef STANDIN_OLD
enum { NEWEST = 605 };
#else
enum { NEWEST = 800 };
#endif

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
__thread bool in_callback;
VixDiskLibGenericLogFunc log_functions[3];

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic enum { UNBORN, RUNNING, ENDED } life;

static void begin(void) {
    config_load();
    counts_open();
}

bool enter(Entered *entered, Call call) {
    uint64_t nth, total;
    pthread_once(&once, begin);
    count_call(call, &nth, &total);
    const Script *script = script_now();
    entered->call = call;
    entered->action = script_action(script, call, nth, total);
    if (entered->action.what & ACT_NONSENSE && call != CALL_ReadAsync && call != CALL_QueryAllocatedBlocks &&
        call != CALL_GetInfo) { /* there is no other nonsense to be had from it */
        entered->action.what |= ACT_ERROR;
        entered->action.error = VIX_E_FAIL;
    }
    if (call != CALL_InitEx && life != RUNNING) {
        breach(call, life == UNBORN ? "called before InitEx succeeded" : "called after Exit");
        return false;
    }
    static _Atomic(const Script *) said;
    if (script->lines && (said != script || total % 16 == 0)) {
        said = script;
        say_lines(script);
    }
    return true;
}

bool modes_offer(const char *mode, size_t length) {
    for (const char *at = config.modes; *at;) {
        size_t size = strcspn(at, ":");
        if (size == length && !strncmp(at, mode, length)) return true;
        at += size + (at[size] == ':');
    }
    return false;
}

VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, VixDiskLibGenericLogFunc log, VixDiskLibGenericLogFunc warn,
                           VixDiskLibGenericLogFunc panic, const char *libDir, const char *configFile) {
    Entered in;
    uint32_t version = major * 100 + minor;
    struct stat found;
    bool right = true;
    if (!enter(&in, CALL_InitEx)) return failure(VIX_E_FAIL);
    if (life != UNBORN) {
        breach(in.call, life == RUNNING ? "called a second time" : "called again after Exit: once a process is all");
        return failure(VIX_E_FAIL);
    }
    if (syscall(SYS_gettid) != getpid()) breach(in.call, "must come from the main thread"), right = false;
    if (!log || !warn || !panic) breach(in.call, "a callback is NULL"), right = false;
    if (version < 605 || version > 800 || minor > 9)
        breach(in.call, "version %u.%u is not between 6.5 and 8.0", major, minor), right = false;
    if (configFile && access(configFile, R_OK)) breach(in.call, "the configuration file cannot be read"), right = false;
    if (libDir && (stat(libDir, &found) || !S_ISDIR(found.st_mode)))
        breach(in.call, "libDir is not a directory"), right = false;
    else if (libDir) {
        char *inside = NULL;
        if (asprintf(&inside, "%s/lib64", libDir) < 0 || stat(inside, &found) || !S_ISDIR(found.st_mode))
            breach(in.call, "libDir is not the folder above lib64"), right = false;
        free(inside);
    }
    if (!right) return failure(VIX_E_INVALID_ARG);
    log_functions[0] = log;
    log_functions[1] = warn;
    log_functions[2] = panic;
    act(&in.action);
    if (in.action.what & ACT_ERROR) return failure(in.action.error);
    if (version > NEWEST) return failure(E_NOT_SUPPORTED);
    life = RUNNING;
    say(0, "VixDiskLib: version %u.%u, transport modes %s.\n", major, minor, config.modes);
    return VIX_OK;
}

void VixDiskLib_Exit(void) {
    static const char *const names[GIVEN_KINDS] = {
        "connection parameters not given back by FreeConnectParams", "infos not given back by FreeInfo",
        "block lists not given back by FreeBlockList", "texts not given back by FreeErrorText"};
    Entered in;
    if (!enter(&in, CALL_Exit)) return;
    if (in_callback) {
        breach(in.call, "called from a callback");
        return;
    }
    act(&in.action);
    unsigned left;
    if ((left = handles_open())) breach(in.call, "%u handles not closed", left);
    if ((left = connections_open())) breach(in.call, "%u connections not disconnected", left);
    for (int kind = 0; kind < GIVEN_KINDS; kind++)
        if ((left = given_count((Given)kind))) breach(in.call, "%u %s", left, names[kind]);
    life = ENDED;
    workers_stop();
}

static const struct {
    uint64_t code;
    const char *text;
} texts[] = {
    {VIX_OK, "The operation was successful"},
    {VIX_E_FAIL, "Unknown error"},
    {VIX_E_OUT_OF_MEMORY, "Memory allocation failed. Out of memory"},
    {VIX_E_INVALID_ARG, "One of the parameters was invalid"},
    {VIX_E_FILE_NOT_FOUND, "A file was not found"},
    {E_NOT_SUPPORTED, "The operation is not supported"},
    {E_ACCESS, "You do not have access rights to this file"},
    {VIX_E_HOST_NETBLKDEV_HANDSHAKE, "The handshake with the host failed"},
    {VIX_E_HOST_SOCKET_CREATION_ERROR, "A socket could not be made"},
    {VIX_E_HOST_SERVER_NOT_FOUND, "The specified server could not be contacted"},
    {VIX_E_HOST_NETWORK_CONN_REFUSED, "The server refused connection"},
    {VIX_E_HOST_TCP_SOCKET_ERROR, "There was an error in communication"},
    {VIX_E_HOST_TCP_CONN_LOST, "The connection was lost"},
    {VIX_E_DISK_INVAL, "One of the parameters supplied is invalid"},
    {VIX_E_DISK_OUTOFRANGE, "The requested access is outside the bounds of the disk"},
    {VIX_E_DISK_CID_MISMATCH, "The content IDs of parent and child do not match"},
    {VIX_E_DISK_NEEDKEY, "The disk is encrypted and its key is missing"},
    {E_CANNOT_CONNECT, "Cannot connect to host"},
};

char *VixDiskLib_GetErrorText(VixError error, const char *locale) {
    Entered in;
    (void)locale;
    if (!enter(&in, CALL_GetErrorText)) return NULL;
    act(&in.action);
    if (in.action.what & (ACT_ERROR | ACT_NULL)) return NULL;
    char *text = give(GIVEN_TEXT, 128);
    if (!text) return NULL;
    snprintf(text, 128, "Unknown error code %u", (unsigned)VIX_ERROR_CODE(error));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].code == VIX_ERROR_CODE(error)) snprintf(text, 128, "%s", texts[i].text);
    return text;
}

void VixDiskLib_FreeErrorText(char *text) {
    Entered in;
    if (!enter(&in, CALL_FreeErrorText)) return;
    act(&in.action);
    take_back(in.call, GIVEN_TEXT, text);
}

const char *VixDiskLib_ListTransportModes(void) {
    Entered in;
    if (!enter(&in, CALL_ListTransportModes)) return NULL;
    act(&in.action);
    return in.action.what & (ACT_ERROR | ACT_NULL) ? NULL : config.modes;
}
