"""Translation of CTranslate2's errors."""

import pytest

from careca.errors import OutOfMemory
from careca_transcriber.device_errors import translated_device_errors


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_too_little_memory_says_which_device_and_what_to_do(failure):
    with (
        pytest.raises(OutOfMemory, match=r"cuda:1 has too little memory.*BATCH_SIZE") as raised,
        translated_device_errors("cuda:1"),
    ):
        raise failure

    assert raised.value.__cause__ is failure


@pytest.mark.parametrize("failure", [RuntimeError("CUDA failed with error invalid argument"), ValueError("no")])
def test_any_other_error_is_passed_on(failure):
    with pytest.raises(type(failure)) as raised, translated_device_errors("cpu"):
        raise failure

    assert raised.value is failure
