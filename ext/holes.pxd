# cython: language_level=3
# Making a range of a file or device read as zeros; owns the system calls, knows no blocks, masks or hashes. The
# kernel of the receiver cimports it (sparse.pyx), Python has it as warmspare._native.holes (holes.pyx).

from libc.errno cimport EINTR, EINVAL, ENODEV, ENOSYS, ENXIO, EOPNOTSUPP, errno
from libc.stdint cimport uint8_t
from posix.types cimport off_t
from posix.unistd cimport lseek, pwrite

cdef extern from "fcntl.h" nogil:
    int fallocate(int fd, int mode, off_t offset, off_t length)
    int FALLOC_FL_PUNCH_HOLE
    int FALLOC_FL_KEEP_SIZE
    int FALLOC_FL_ZERO_RANGE

cdef extern from "unistd.h" nogil:
    int SEEK_DATA

cdef extern from * nogil:
    """
    static const uint8_t warmspare_zeros[65536];
    """
    const uint8_t *ZEROS "warmspare_zeros"
    enum:
        ZEROS_BYTES "sizeof(warmspare_zeros)"


cdef inline bint unsupported(int status) noexcept nogil:
    """Errors of fallocate which mean that this file can't do it, and that something else may."""
    return status == EOPNOTSUPP or status == ENOSYS or status == ENODEV or status == EINVAL


cdef inline int write_all(int fd, const uint8_t *data, size_t length, off_t offset) noexcept nogil:
    """0, or an errno."""
    cdef ssize_t n
    while length:
        n = pwrite(fd, data, length, offset)
        if n < 0:
            if errno == EINTR:
                continue
            return errno
        data += n
        length -= n
        offset += n
    return 0


cdef inline int make_zero(int fd, off_t offset, off_t length) noexcept nogil:
    """Make a range read as zeros, as a hole where that can be; 0 or an errno.

    Asks for data first: punching a hole into a hole costs about as much as into data on some file systems.
    """
    cdef off_t data, end = offset + length
    cdef size_t size
    cdef int status
    while offset < end:
        data = lseek(fd, offset, SEEK_DATA)
        if data < 0:
            if errno == ENXIO:  # no data up to the end of the file
                return 0
            data = offset  # a device, or a file system that does not know: take it for data
        if data >= end:
            return 0
        offset = data
        if fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, end - offset) == 0:
            return 0
        status = errno
        if status == EINTR:
            continue
        if not unsupported(status):
            return status
        size = ZEROS_BYTES if end - offset > <off_t> ZEROS_BYTES else <size_t> (end - offset)
        status = write_all(fd, ZEROS, size, offset)
        if status:
            return status
        offset += size
    return 0
