# cython: language_level=3
"""The client's half of the ring (ring.h): submits requests, takes completions; refuses to wait for either.

A ring is a shared memory file of RING_DATA_OFFSET bytes of queues, then data. Its memory belongs to whoever mapped it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "ring.h" nogil:
    size_t C_DATA_OFFSET "RING_DATA_OFFSET"
    unsigned int C_ENTRIES "RING_ENTRIES"
    int C_READ "RING_READ"
    int C_ALLOCATED "RING_ALLOCATED"
    uint64_t C_SHORT "RING_SHORT"
    uint64_t C_REFUSED "RING_REFUSED"
    uint64_t C_NONSENSE "RING_NONSENSE"
    uint64_t C_UNSUPPORTED "RING_UNSUPPORTED"
    ctypedef struct c_ring "struct ring":
        uint64_t magic
    ctypedef struct c_request "struct ring_request":
        uint64_t ticket
        uint64_t sector
        uint64_t sectors
        uint64_t offset
        uint64_t room
        uint32_t chunk
        uint32_t op
    ctypedef struct c_completion "struct ring_completion":
        uint64_t ticket
        uint64_t error
        uint64_t count
    void ring_format(c_ring *ring, uint64_t data_bytes)
    int ring_submit(c_ring *ring, const c_request *request)
    int ring_reap(c_ring *ring, c_completion *completion)

DATA_OFFSET = C_DATA_OFFSET
ENTRIES = C_ENTRIES
READ = C_READ
ALLOCATED = C_ALLOCATED
SHORT = C_SHORT
REFUSED = C_REFUSED
NONSENSE = C_NONSENSE
UNSUPPORTED = C_UNSUPPORTED


cdef class Ring:
    """Over writable memory of DATA_OFFSET + data bytes, zeroed; ValueError if it is too small."""

    cdef uint8_t[::1] _memory
    cdef c_ring *_ring

    def __init__(self, uint8_t[::1] memory) -> None:
        if memory.shape[0] <= <Py_ssize_t> C_DATA_OFFSET:
            raise ValueError("the memory is too small for a ring")
        self._memory = memory
        self._ring = <c_ring *> &memory[0]
        ring_format(self._ring, memory.shape[0] - C_DATA_OFFSET)

    def submit(
        self, int op, uint64_t ticket, uint64_t sector, uint64_t sectors, uint64_t offset, uint64_t room,
        uint32_t chunk = 0,
    ) -> bool:
        """Queue a request; False if the queue is full. offset, room: of its buffer in the data area, in bytes."""
        cdef c_request request
        request.ticket, request.sector, request.sectors = ticket, sector, sectors
        request.offset, request.room, request.chunk, request.op = offset, room, chunk, <uint32_t> op
        return ring_submit(self._ring, &request) == 0

    def reap(self) -> list[tuple[int, int, int]]:
        """(ticket, error, count) of all that completed. ValueError if the other side's counter is impossible."""
        cdef c_completion completion
        cdef list out = []
        cdef int got
        cdef unsigned int n
        for n in range(C_ENTRIES):
            got = ring_reap(self._ring, &completion)
            if got < 0:
                raise ValueError("the reader's counter of completions is impossible")
            if got == 0:
                break
            out.append((completion.ticket, completion.error, completion.count))
        return out
