"""A failure has a code that machines know, and words that help."""

from __future__ import annotations

import errno

import pytest
from retort.errors import DataError, OutOfMemory, TransientError
from retort.pipeline.failures import explain
from retort.protocol.events import RunFailure


def fail(error: BaseException) -> RunFailure:
    try:
        raise error
    except type(error) as caught:
        return explain(caught)


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's."""


class AcceleratorError(RuntimeError):
    """Has the name of torch's."""


def test_what_the_system_said_is_told_with_its_numbers():
    told = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB\nmore"
    assert "Tried to allocate 2.00 GiB" in fail(OutOfMemoryError(told)).message
    assert "more" not in fail(OutOfMemoryError(told)).message


def test_an_error_for_people_keeps_its_words():
    assert fail(DataError("bad", hint="do")) == RunFailure(code="bad_data", message="bad", hint="do")
    assert fail(TransientError("gone")).retryable
    assert fail(OutOfMemory("small")).code == "out_of_memory"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (MemoryError(), "out_of_memory", False),
        (OutOfMemoryError("CUDA"), "out_of_memory", False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory", False),
        (OSError(errno.ENOMEM, "x"), "out_of_memory", False),
        (OSError(errno.ENOSPC, "x"), "disk_full", True),
        (OSError(errno.EFBIG, "x"), "disk_full", True),
        (OSError(errno.ENOSPC, "x", "/dev/shm/sem.7"), "shared_memory", True),  # noqa: S108
        (
            RuntimeError("unable to mmap 8 bytes from file </torch_7>: Cannot allocate"),
            "shared_memory",
            True,
        ),
        (
            RuntimeError("unable to allocate shared memory(shm) for file: No space left"),
            "shared_memory",
            True,
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "killed", True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. "), "crashed", True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "out_of_memory", False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "cuda_error", True),
        (RuntimeError("rank 1: DistBackendError: NCCL communicator was aborted on rank 1."), "cuda_error", True),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "disk_full", True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "shared_memory", True),
        (RuntimeError("unable to open shared memory object </torch_7> in read-write mode"), "shared_memory", True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "cuda_error", True),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2, unhandled cuda error"), "cuda_error", True),
        (AcceleratorError("uncorrectable ECC error encountered"), "cuda_error", True),
        (ZeroDivisionError("x"), "internal", False),
        (OSError(errno.EIO, "x"), "internal", False),
    ],
)
def test_other_errors_get_a_code_and_the_end_of_their_traceback(error: Exception, code: str, retryable: bool):
    failure = fail(error)
    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.hint
    assert "test_stages_failure.py" in str(failure.log_excerpt)


def test_the_systems_own_word_counts_wherever_a_library_has_hidden_it():
    told = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    told.__cause__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")
    assert explain(told).code == "shared_memory"
    dealt_with = RuntimeError("surprise")
    dealt_with.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert explain(dealt_with).code == "disk_full"
    dealt_with.__suppress_context__ = True
    assert explain(dealt_with).code == "internal"


def test_gpus_that_cannot_talk_to_each_other_are_told_as_such():
    """NCCL's words were told as one GPU that failed, with a look at the driver's log as the way out."""
    told = (
        "rank 1: DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2, unhandled system error, NCCL version 2.28.3"
    )
    failure = explain(RuntimeError(told))
    assert (failure.code, failure.retryable) == ("cuda_error", True)
    assert failure.message.startswith("the GPUs of the run could not talk to each other")
    assert "NCCL_P2P_DISABLE=1" in (failure.hint or "")


def test_a_gpu_that_failed_is_named():
    failure = explain(RuntimeError("CUDA error: device-side assert triggered\nmore"), "3")
    assert failure.message == "GPU 3 of the run, or its driver, failed: CUDA error: device-side assert triggered"


def test_what_strangers_wrote_is_shown_without_control_characters_and_cut():
    failure = fail(ValueError("\x1b[31mred\n" + "x" * 10_000))
    assert "\x1b" not in failure.message + str(failure.log_excerpt)
    assert "\\x1b[31mred" in failure.message
    assert len(failure.message) <= 400
    assert len(str(failure.log_excerpt)) < 20_000
