"""What the process gives back to the machine once a large request is done.

After a few thousand uploads and manifests a gateway held more than a gigabyte of which Python used 20 MB. Two heaps for
all threads, and large blocks that are unmapped when they are freed, keep it at what it uses.
"""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
M_MMAP_THRESHOLD = -3
M_TRIM_THRESHOLD = -1
M_ARENA_MAX = -8

HEAPS = 2  # glibc gives each of some forty threads its own, and the top of each stays with it
LARGE_BYTES = 256 * 1024  # what is larger is mapped on its own


def give_memory_back() -> bool:
    """Have the allocator keep little of what is freed. Return False where it is not glibc's and cannot be told."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, as musl, has none
        return False
    # Set by hand, both thresholds stay as they are: by itself the first grows to 32 MiB with what was freed last.
    settings = ((M_ARENA_MAX, HEAPS), (M_MMAP_THRESHOLD, LARGE_BYTES), (M_TRIM_THRESHOLD, LARGE_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
