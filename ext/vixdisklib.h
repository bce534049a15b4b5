/* The public C interface of VMware's VDDK, libraries 6.5 to 9.1, Linux x86-64: our own declarations of it.
 *
 * Owns names, layouts and signatures and nothing else. The binding (vddk.pyx) and the stand-in (standin/) compile
 * against this one file; since a mistake in it would then cancel out, tests/interop drives the stand-in from a ctypes
 * client that was written from the documented ABI and checks every offset below against it.
 *
 * Symbols are looked up at run time (dlsym), never linked. A disk is addressed in sectors of 512 bytes.
 */
#ifndef WARMSPARE_VIXDISKLIB_H
#define WARMSPARE_VIXDISKLIB_H

#include <stdarg.h>
#include <stdint.h>

#define VIXDISKLIB_SECTOR_SIZE 512
#define VIXDISKLIB_MIN_CHUNK_SIZE 128         /* sectors: the least granularity of QueryAllocatedBlocks */
#define VIXDISKLIB_MAX_CHUNK_NUMBER (512 * 1024) /* chunks in one call of it */

typedef uint64_t VixError; /* the low 16 bits are the code; the rest is the library's own business */
#define VIX_ERROR_CODE(error) ((error) & 0xFFFF)

enum {
    VIX_OK = 0,
    VIX_E_FAIL = 1,
    VIX_E_OUT_OF_MEMORY = 2,
    VIX_E_INVALID_ARG = 3,
    VIX_E_FILE_NOT_FOUND = 4,
    VIX_E_HOST_NETBLKDEV_HANDSHAKE = 14006,
    VIX_E_HOST_SOCKET_CREATION_ERROR = 14007,
    VIX_E_HOST_SERVER_NOT_FOUND = 14008,
    VIX_E_HOST_NETWORK_CONN_REFUSED = 14009,
    VIX_E_HOST_TCP_SOCKET_ERROR = 14010,
    VIX_E_HOST_TCP_CONN_LOST = 14011,
    VIX_E_DISK_INVAL = 16000,
    VIX_E_DISK_OUTOFRANGE = 16007,
    VIX_E_DISK_CID_MISMATCH = 16008,
    VIX_E_DISK_NEEDKEY = 16014,
    VIX_ASYNC = 25000 /* an asynchronous call was accepted; its callback says how it went */
};

typedef void *VixDiskLibConnection;
typedef struct VixDiskLibHandleStruct *VixDiskLibHandle;

enum { /* flags of Open */
    VIXDISKLIB_FLAG_OPEN_UNBUFFERED = 1,
    VIXDISKLIB_FLAG_OPEN_SINGLE_LINK = 2,
    VIXDISKLIB_FLAG_OPEN_READ_ONLY = 4,
    VIXDISKLIB_FLAG_OPEN_COMPRESSION_ZLIB = 16,
    VIXDISKLIB_FLAG_OPEN_COMPRESSION_FASTLZ = 32,
    VIXDISKLIB_FLAG_OPEN_COMPRESSION_SKIPZ = 64
};

typedef enum {
    VIXDISKLIB_CRED_UID = 1, /* user name and password */
    VIXDISKLIB_CRED_SESSIONID = 2,
    VIXDISKLIB_CRED_TICKETID = 3,
    VIXDISKLIB_CRED_SSPI = 4
} VixDiskLibCredType;

typedef enum {
    VIXDISKLIB_SPEC_VMX = 0, /* vmxSpec reads `moref=vm-123` */
    VIXDISKLIB_SPEC_VSTORAGE_OBJECT = 1
} VixDiskLibSpecType;

/* From 6.7 on to be had from AllocateConnectParams only; earlier ones take any that is zeroed first. */
typedef struct {
    char *vmxSpec;
    char *serverName;
    char *thumbPrint;
    long privateUse;
    VixDiskLibCredType credType;
    union {
        struct {
            char *userName;
            char *password;
        } uid;
        struct {
            char *cookie;
            char *userName;
            char *key;
        } sessionId;
        void *ticketId;
    } creds;
    uint32_t port;
    uint32_t nfcHostPort;
    char *reserved1;
    char reserved2[8];
    void *reserved3;
    union {
        struct {
            char *id;
            char *datastoreMoRef;
            char *ssId;
        } vStorageObjSpec;
    } spec;
    VixDiskLibSpecType specType;
} VixDiskLibConnectParams;

typedef struct {
    uint32_t cylinders;
    uint32_t heads;
    uint32_t sectors;
} VixDiskLibGeometry;

typedef struct {
    VixDiskLibGeometry biosGeo;
    VixDiskLibGeometry physGeo;
    uint64_t capacity; /* in sectors */
    int adapterType;
    int numLinks;
    char *parentFileNameHint;
    char *uuid;
    uint32_t logicalSectorSize; /* these two from 7.0 on: an older library does not fill them */
    uint32_t physicalSectorSize;
} VixDiskLibInfo;

typedef struct {
    uint64_t offset; /* both in sectors */
    uint64_t length;
} VixDiskLibBlock;

typedef struct {
    uint32_t numBlocks;
    VixDiskLibBlock blocks[];
} VixDiskLibBlockList;

typedef void (*VixDiskLibGenericLogFunc)(const char *format, va_list arguments);
typedef void (*VixDiskLibCompletionCB)(void *data, VixError result);

/* One line a function: X(result, name, arguments). `R` are needed, and in all libraries from 6.5 on; `O` may be absent. */
#define VIXDISKLIB_REQUIRED(R)                                                                                         \
    R(VixError, InitEx,                                                                                                \
      (uint32_t major, uint32_t minor, VixDiskLibGenericLogFunc log, VixDiskLibGenericLogFunc warn,                    \
       VixDiskLibGenericLogFunc panic, const char *libDir, const char *configFile))                                    \
    R(void, Exit, (void))                                                                                              \
    R(char *, GetErrorText, (VixError error, const char *locale))                                                      \
    R(void, FreeErrorText, (char *text))                                                                               \
    R(void, FreeConnectParams, (VixDiskLibConnectParams *params))                                                      \
    R(VixError, ConnectEx,                                                                                             \
      (const VixDiskLibConnectParams *params, char readOnly, const char *snapshotRef, const char *transportModes,      \
       VixDiskLibConnection *connection))                                                                              \
    R(VixError, Disconnect, (VixDiskLibConnection connection))                                                         \
    R(VixError, PrepareForAccess, (const VixDiskLibConnectParams *params, const char *identity))                       \
    R(VixError, EndAccess, (const VixDiskLibConnectParams *params, const char *identity))                              \
    R(VixError, Cleanup, (const VixDiskLibConnectParams *params, uint32_t *cleaned, uint32_t *remaining))              \
    R(const char *, ListTransportModes, (void))                                                                        \
    R(VixError, Open, (VixDiskLibConnection connection, const char *path, uint32_t flags, VixDiskLibHandle *handle))   \
    R(VixError, Close, (VixDiskLibHandle handle))                                                                      \
    R(VixError, GetInfo, (VixDiskLibHandle handle, VixDiskLibInfo **info))                                             \
    R(void, FreeInfo, (VixDiskLibInfo *info))                                                                          \
    R(const char *, GetTransportMode, (VixDiskLibHandle handle))                                                       \
    R(VixError, Read, (VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, uint8_t *buffer))

#define VIXDISKLIB_OPTIONAL(O)                                                                                         \
    O(VixError, Write, (VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, const uint8_t *buffer))       \
    O(VixError, Flush, (VixDiskLibHandle handle))                                                                      \
    O(VixDiskLibConnectParams *, AllocateConnectParams, (void))                                                        \
    O(VixError, ReadAsync,                                                                                             \
      (VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, uint8_t *buffer,                               \
       VixDiskLibCompletionCB callback, void *data))                                                                   \
    O(VixError, WriteAsync,                                                                                            \
      (VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, const uint8_t *buffer,                         \
       VixDiskLibCompletionCB callback, void *data))                                                                   \
    O(VixError, Wait, (VixDiskLibHandle handle))                                                                       \
    O(VixError, QueryAllocatedBlocks,                                                                                  \
      (VixDiskLibHandle handle, uint64_t startSector, uint64_t sectors, uint64_t chunkSectors,                         \
       VixDiskLibBlockList **list))                                                                                    \
    O(VixError, FreeBlockList, (VixDiskLibBlockList *list))

/* Prototypes, for a library that has these symbols (the stand-in). The binding makes pointers of the same list. */
#ifdef WARMSPARE_VIXDISKLIB_PROTOTYPES
#define VIXDISKLIB_PROTOTYPE(result, name, arguments) __attribute__((visibility("default"))) result VixDiskLib_##name arguments;
VIXDISKLIB_REQUIRED(VIXDISKLIB_PROTOTYPE)
VIXDISKLIB_OPTIONAL(VIXDISKLIB_PROTOTYPE)
#endif

#endif
