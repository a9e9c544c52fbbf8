"""Recognize that memory ran out, whoever says it."""

from __future__ import annotations

import errno

# Native libraries raise their own types; words are all they pass on. The last two are C++'s and oneDNN's.
_WORDS = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "could not create a memory object",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the memory of the machine or of a device did not suffice."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    is_torchs = any(base.__name__ == "OutOfMemoryError" for base in type(error).__mro__)
    return is_torchs or (isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS))
