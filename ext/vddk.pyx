# cython: language_level=3
"""The binding of a VDDK that is loaded at run time; owns the library's life cycle inside the reader process.

One process has one library, one connection and one open disk. The main thread calls what is here; while a disk is
read, the thread in vddk_reader.h does. Only `warmspare.source.vddk.vddk_host` imports this module: a VDDK brings its own
OpenSSL and libstdc++, which clash with Python's.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen

cdef extern from "sys/mman.h" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ
    int PROT_WRITE
    int MAP_SHARED
    int MAP_POPULATE
    void *MAP_FAILED

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int flags)
    char *dlerror()
    int RTLD_NOW
    int RTLD_LOCAL

cdef extern from "string.h" nogil:
    void explicit_bzero(void *data, size_t length)

cdef extern from "vixdisklib.h" nogil:
    ctypedef uint64_t VixError
    ctypedef void *VixDiskLibConnection
    ctypedef void *VixDiskLibHandle
    ctypedef struct uid_credentials:
        char *userName
        char *password
    ctypedef struct session_credentials:
        char *cookie
        char *userName
        char *key
    ctypedef union credentials:
        uid_credentials uid
        session_credentials sessionId
    ctypedef struct VixDiskLibConnectParams:
        char *vmxSpec
        char *serverName
        char *thumbPrint
        int credType
        credentials creds
        uint32_t port
        uint32_t nfcHostPort
        int specType
    ctypedef struct VixDiskLibInfo:
        uint64_t capacity
        char *uuid
    int VIXDISKLIB_CRED_UID
    int VIXDISKLIB_CRED_SESSIONID
    int VIXDISKLIB_SPEC_VMX
    uint32_t VIXDISKLIB_FLAG_OPEN_UNBUFFERED
    uint32_t VIXDISKLIB_FLAG_OPEN_READ_ONLY

cdef extern from "vddk_api.h" nogil:
    ctypedef struct vddk_api "struct vddk_api":
        void (*Exit)() noexcept nogil
        char *(*GetErrorText)(VixError error, const char *locale) noexcept nogil
        void (*FreeErrorText)(char *text) noexcept nogil
        VixDiskLibConnectParams *(*AllocateConnectParams)() noexcept nogil
        void (*FreeConnectParams)(VixDiskLibConnectParams *params) noexcept nogil
        VixError (*ConnectEx)(
            const VixDiskLibConnectParams *params, char read_only, const char *snapshot, const char *modes,
            VixDiskLibConnection *connection) noexcept nogil
        VixError (*Disconnect)(VixDiskLibConnection connection) noexcept nogil
        VixError (*PrepareForAccess)(const VixDiskLibConnectParams *params, const char *identity) noexcept nogil
        VixError (*EndAccess)(const VixDiskLibConnectParams *params, const char *identity) noexcept nogil
        VixError (*Cleanup)(const VixDiskLibConnectParams *params, uint32_t *cleaned, uint32_t *remaining) noexcept nogil
        const char *(*ListTransportModes)() noexcept nogil
        VixError (*Open)(
            VixDiskLibConnection connection, const char *path, uint32_t flags, VixDiskLibHandle *handle) noexcept nogil
        VixError (*Close)(VixDiskLibHandle handle) noexcept nogil
        VixError (*GetInfo)(VixDiskLibHandle handle, VixDiskLibInfo **info) noexcept nogil
        void (*FreeInfo)(VixDiskLibInfo *info) noexcept nogil
        const char *(*GetTransportMode)(VixDiskLibHandle handle) noexcept nogil
        void *ReadAsync
        void *Wait
    void vddk_resolve(
        vddk_api *api, void *library, void (*missing)(void *, const char *, int) noexcept, void *context)
    VixError vddk_init(
        const vddk_api *api, uint32_t major, uint32_t minor, int log_fd, const char *directory, const char *config)

cdef extern from "vddk_reader.h" nogil:
    ctypedef struct c_ring "struct ring":
        uint64_t magic
        uint64_t data_bytes
    uint64_t RING_MAGIC
    size_t RING_DATA_OFFSET
    ctypedef struct c_reader "struct reader":
        const vddk_api *api
        VixDiskLibHandle handle
        c_ring *ring
        uint64_t capacity
        int request_fd
        int completion_fd
        int keep_alive_ms
        int asynchronous
    int reader_start(c_reader *reader)
    void reader_stop(c_reader *reader)
    int c_reader_watch "reader_watch"(int fd, int grace_ms)

# The API that every library from 6.5 on accepts; what later ones added is found by its symbols.
cdef enum:
    API_MAJOR = 6
    API_MINOR = 5


class VddkError(Exception):
    """A call that the library answered with an error. call: its name; code: the low 16 bits; text: its own words."""

    def __init__(self, call: str, error: int, text: str) -> None:
        self.call, self.code, self.text = call, error & 0xFFFF, text
        super().__init__(f"{call} gave {self.code}: {text}")


def watch(int fd, int grace_ms) -> None:
    """End this process `grace_ms` after the other end of the socket `fd` was closed, whatever it is doing then."""
    if c_reader_watch(fd, grace_ms) != 0:
        raise OSError("the thread that watches the client could not be started")


cdef void _note_missing(void *context, const char *name, int required) noexcept with gil:
    (<object> context).append((name.decode(), bool(required)))


cdef class _Texts:
    """C strings of this process's own, wiped when they are no longer needed; None becomes NULL."""

    cdef list _kept

    def __cinit__(self):
        self._kept = []

    cdef char *add(self, text) except? NULL:
        cdef bytes data
        cdef char *copy
        cdef size_t size
        if text is None:
            return NULL
        data = text.encode()
        size = len(data) + 1
        copy = <char *> calloc(size, 1)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, <const char *> data, size - 1)
        self._kept.append(<uintptr_t> copy)
        return copy

    def __dealloc__(self):
        cdef char *text
        for address in self._kept:
            text = <char *> <uintptr_t> address
            explicit_bzero(text, strlen(text))
            free(text)


cdef class Library:
    """The library at `path` (its libvixDiskLib.so). OSError with the loader's words if it can't be loaded.

    missing: (symbol, required) of what it lacks.
    """

    cdef vddk_api _api
    cdef readonly list missing
    cdef bint _begun
    cdef VixDiskLibConnectParams *_params
    cdef _Texts _texts
    cdef VixDiskLibConnection _connection
    cdef VixDiskLibHandle _handle
    cdef c_reader *_reader
    cdef c_ring *_ring
    cdef size_t _ring_bytes
    cdef int _request_fd, _completion_fd

    def __init__(self, str path) -> None:
        cdef bytes name = path.encode()
        cdef const char *c_name = name
        cdef void *library
        cdef const char *why
        with nogil:
            library = dlopen(c_name, RTLD_NOW | RTLD_LOCAL)
        if library == NULL:
            why = dlerror()
            raise OSError(why.decode(errors="replace") if why != NULL else "no reason given")
        self.missing = []
        vddk_resolve(&self._api, library, _note_missing, <void *> self.missing)

    cdef _raise(self, str call, VixError error):
        raise VddkError(call, <uint64_t> error, self.error_text(error))

    cdef _nothing(self, str call, str what):
        # Code 0: it is no error of the library's, which thinks that all is well.
        raise VddkError(call, 0, f"and gave no {what}")

    def error_text(self, uint64_t error) -> str:
        """The library's own words for an error; "" before `init` has succeeded: it must not be asked then."""
        cdef char *text
        if not self._begun:
            return ""
        with nogil:
            text = self._api.GetErrorText(error, NULL)
        if text == NULL:
            return ""
        try:
            return text.decode(errors="replace")
        finally:
            with nogil:
                self._api.FreeErrorText(text)

    def init(self, int log_fd, str directory, config: str | None) -> None:
        """InitEx, once a process. log_fd: where log lines go. directory: the VDDK's. config: its settings file."""
        cdef bytes where = directory.encode()
        cdef bytes settings = b"" if config is None else config.encode()
        cdef const char *c_where = where
        cdef const char *c_settings = NULL if config is None else <const char *> settings
        cdef VixError error
        cdef uint32_t major = API_MAJOR, minor = API_MINOR
        with nogil:
            error = vddk_init(&self._api, major, minor, log_fd, c_where, c_settings)
        if error:
            self._raise("VixDiskLib_InitEx", error)
        self._begun = True

    def exit(self) -> None:
        """Close, disconnect, free and Exit: whatever there is of each."""
        try:
            self.close()
        finally:
            try:
                self.disconnect()
            finally:
                self.forget()
                if self._begun:
                    self._begun = False
                    with nogil:
                        self._api.Exit()

    def transport_modes(self) -> str | None:
        """What this library offers, as `file:nbd:…`; None if it does not say."""
        cdef const char *modes
        with nogil:
            modes = self._api.ListTransportModes()
        return None if modes == NULL else modes.decode(errors="replace")

    # -- the virtual machine -----------------------------------------------------------------------------------

    def target(
        self, *, vm: str | None = None, server: str | None = None, port: int = 0, nfc_port: int = 0,
        thumbprint: str | None = None, user: str | None = None, password: str | None = None,
        cookie: str | None = None,
    ) -> None:
        """Where `connect`, `prepare`, `end_access` and `cleanup` go. All None: local files.

        vm: `moref=vm-123`. thumbprint: SHA-1, as AA:BB:…. cookie: a vCenter session instead of the password.
        """
        self.forget()
        self._texts = _Texts()
        if self._api.AllocateConnectParams != NULL:
            with nogil:
                self._params = self._api.AllocateConnectParams()
            if self._params == NULL:
                self._nothing("VixDiskLib_AllocateConnectParams", "parameters")
        else:
            self._params = <VixDiskLibConnectParams *> calloc(1, sizeof(VixDiskLibConnectParams))
        if self._params == NULL:
            raise MemoryError
        if server is None:
            return
        self._params.vmxSpec = self._texts.add(vm)
        self._params.serverName = self._texts.add(server)
        self._params.thumbPrint = self._texts.add(thumbprint)
        self._params.port, self._params.nfcHostPort = port, nfc_port
        self._params.specType = VIXDISKLIB_SPEC_VMX
        if cookie is not None:
            self._params.credType = VIXDISKLIB_CRED_SESSIONID
            self._params.creds.sessionId.cookie = self._texts.add(cookie)
            self._params.creds.sessionId.userName = self._texts.add(user)
            self._params.creds.sessionId.key = self._texts.add(password)
        else:
            self._params.credType = VIXDISKLIB_CRED_UID
            self._params.creds.uid.userName = self._texts.add(user)
            self._params.creds.uid.password = self._texts.add(password)

    def forget(self) -> None:
        """Free the target and wipe its secrets."""
        if self._params != NULL:
            # The library's memory, but not the texts, which are ours.
            if self._api.AllocateConnectParams != NULL:
                with nogil:
                    self._api.FreeConnectParams(self._params)
            else:
                free(self._params)
            self._params = NULL
        self._texts = None

    cdef int _need_target(self) except -1:
        if self._params == NULL:
            raise ValueError("no target was given")
        return 0

    def prepare(self, str identity) -> None:
        """PrepareForAccess: the host must not move the VM, until `end_access`."""
        cdef bytes name = identity.encode()
        cdef const char *c_name = name
        cdef VixError error
        self._need_target()
        with nogil:
            error = self._api.PrepareForAccess(self._params, c_name)
        if error:
            self._raise("VixDiskLib_PrepareForAccess", error)

    def end_access(self, str identity) -> None:
        cdef bytes name = identity.encode()
        cdef const char *c_name = name
        cdef VixError error
        self._need_target()
        with nogil:
            error = self._api.EndAccess(self._params, c_name)
        if error:
            self._raise("VixDiskLib_EndAccess", error)

    def cleanup(self) -> tuple[int, int]:
        """Remove what crashed runs left on the proxy. Returns (cleaned, remaining)."""
        cdef uint32_t cleaned = 0, remaining = 0
        cdef VixError error
        self._need_target()
        with nogil:
            error = self._api.Cleanup(self._params, &cleaned, &remaining)
        if error:
            self._raise("VixDiskLib_Cleanup", error)
        return cleaned, remaining

    # -- connection and disk -----------------------------------------------------------------------------------

    def connect(self, snapshot: str | None, modes: str | None) -> None:
        """snapshot: `snapshot-123`. modes: transport modes, best first; None: the library's own order."""
        cdef bytes reference = b"" if snapshot is None else snapshot.encode()
        cdef bytes order = b"" if modes is None else modes.encode()
        cdef const char *c_reference = NULL if snapshot is None else <const char *> reference
        cdef const char *c_order = NULL if modes is None else <const char *> order
        cdef VixError error
        self._need_target()
        if self._connection != NULL:
            raise ValueError("connected already")
        with nogil:
            error = self._api.ConnectEx(self._params, 1, c_reference, c_order, &self._connection)
        if error:
            self._connection = NULL
            self._raise("VixDiskLib_ConnectEx", error)
        if self._connection == NULL:
            self._nothing("VixDiskLib_ConnectEx", "connection")

    def disconnect(self) -> None:
        cdef VixDiskLibConnection connection = self._connection
        cdef VixError error
        if connection == NULL:
            return
        self._connection = NULL
        with nogil:
            error = self._api.Disconnect(connection)
        if error:
            self._raise("VixDiskLib_Disconnect", error)

    def open(self, str path) -> tuple[int, str, str | None]:
        """Open a disk read-only. Returns (capacity in sectors, its UUID or "", transport mode in use). Where it raises,
        the disk may be open all the same: `close` it.

        Read-ahead in the library or the kernel is no use to a reader that has its own, hence unbuffered.
        """
        cdef bytes name = path.encode()
        cdef const char *c_name = name
        cdef VixError error
        cdef VixDiskLibInfo *info = NULL
        cdef const char *mode
        cdef uint32_t flags = VIXDISKLIB_FLAG_OPEN_READ_ONLY | VIXDISKLIB_FLAG_OPEN_UNBUFFERED
        if self._connection == NULL or self._handle != NULL:
            raise ValueError("not connected, or a disk is open")
        with nogil:
            error = self._api.Open(self._connection, c_name, flags, &self._handle)
        if error:
            self._handle = NULL
            self._raise("VixDiskLib_Open", error)
        if self._handle == NULL:
            self._nothing("VixDiskLib_Open", "handle")
        with nogil:
            error = self._api.GetInfo(self._handle, &info)
        if error:
            self._raise("VixDiskLib_GetInfo", error)
        if info == NULL:
            self._nothing("VixDiskLib_GetInfo", "info")
        try:
            capacity = info.capacity
            uuid = info.uuid.decode(errors="replace") if info.uuid != NULL else ""
        finally:
            with nogil:
                self._api.FreeInfo(info)
        with nogil:
            mode = self._api.GetTransportMode(self._handle)
        return capacity, uuid, None if mode == NULL else mode.decode(errors="replace")

    def close(self) -> None:
        """Stop reading, wait for what is in flight, close."""
        cdef VixDiskLibHandle handle = self._handle
        cdef VixError error
        self.stop()
        if handle == NULL:
            return
        self._handle = NULL
        with nogil:
            error = self._api.Close(handle)
        if error:
            self._raise("VixDiskLib_Close", error)

    # -- reading ------------------------------------------------------------------------------------------------

    def attach(self, int ring_fd, size_t ring_bytes, int request_fd, int completion_fd) -> None:
        """Map the ring. The descriptors stay the caller's."""
        cdef void *address
        if self._ring != NULL:
            raise ValueError("a ring is attached")
        with nogil:
            address = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring_fd, 0)
        if address == MAP_FAILED:
            raise OSError("the ring can't be mapped")
        self._ring, self._ring_bytes = <c_ring *> address, ring_bytes
        if self._ring.magic != RING_MAGIC or self._ring.data_bytes != ring_bytes - RING_DATA_OFFSET:
            raise ValueError("this is not a ring")
        self._request_fd, self._completion_fd = request_fd, completion_fd

    def start(self, uint64_t capacity, bint asynchronous, int keep_alive_ms) -> bool:
        """Serve the ring from the open disk. Returns whether reads are asynchronous: asked for, and to be had.

        capacity: in sectors. keep_alive_ms: how long the handle may lie idle (-1: for ever).
        """
        cdef int status
        if self._ring == NULL or self._handle == NULL or self._reader != NULL:
            raise ValueError("no ring, no disk, or reading already")
        self._reader = <c_reader *> calloc(1, sizeof(c_reader))
        if self._reader == NULL:
            raise MemoryError
        self._reader.api, self._reader.handle, self._reader.ring = &self._api, self._handle, self._ring
        self._reader.capacity = capacity
        self._reader.request_fd, self._reader.completion_fd = self._request_fd, self._completion_fd
        self._reader.keep_alive_ms = keep_alive_ms
        self._reader.asynchronous = asynchronous and self._api.ReadAsync != NULL and self._api.Wait != NULL
        status = reader_start(self._reader)
        if status != 0:
            free(self._reader)
            self._reader = NULL
            raise OSError(status, "the reader's thread could not be started")
        return bool(self._reader.asynchronous)

    def stop(self) -> None:
        """Returns when nothing is in flight any more."""
        cdef c_reader *reader = self._reader
        if reader == NULL:
            return
        self._reader = NULL
        with nogil:
            reader_stop(reader)
        free(reader)

    def __dealloc__(self):
        # Only reached where `exit` was called or the process ends: a thread that still reads would use the ring.
        if self._ring != NULL and self._reader == NULL:
            munmap(self._ring, self._ring_bytes)
