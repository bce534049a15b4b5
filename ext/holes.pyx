# cython: language_level=3
"""Ranges that read as zeros: holes, or zeros that the medium writes itself; knows no blocks, masks or hashes.

The receiver and the audits share it, as they share pwrite, and it is neither's: what it leaves on a medium is never
taken for granted, but read again and hashed, a replica's block by judge.pyx, a block of an audit's scratch space by
audit/repository/deep/verify.py. Runs without the GIL. The Python reference is tests/unit/reference.py.
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t

from holes cimport FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, fallocate, make_zero, unsupported

import os


def punch(int fd, int64_t offset, int64_t length):
    """Make [offset, offset + length) read as zeros, as a hole where the file system can.

    Raises OSError, and ValueError for a negative range (SEEK_DATA would call it a hole).
    """
    cdef int status
    if offset < 0 or length < 0:
        raise ValueError("a range must not be negative")
    with nogil:
        status = make_zero(fd, offset, length)
    if status:
        raise OSError(status, os.strerror(status))


def zero_range(int fd, int64_t offset, int64_t length):
    """Have the medium itself write zeros (a device's write-zeroes command); False where it cannot.

    Unlike discard this promises that the range reads as zeros. Raises OSError on any other failure.
    """
    cdef int status = 0
    with nogil:
        if fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length) != 0:
            status = errno
    if unsupported(status):
        return False
    if status:
        raise OSError(status, os.strerror(status))
    return True
