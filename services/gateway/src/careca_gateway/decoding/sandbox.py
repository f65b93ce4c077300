"""Takes from the decoder's process all access that it does not need: called by ``careca_gateway.decoding.process``.

FFmpeg is a million lines of C that read bytes from untrusted people. An attacker who finds a bug in it must not reach
any file, network or other process. There are three layers, which any process may apply to itself without root or
namespaces. The last layer alone would be enough:

    user        if the process runs as root, it changes to the user nobody, without capabilities
    landlock    no path can be opened, no port used, no other process signalled (Linux 5.13 or newer)
    seccomp     the kernel refuses all system calls except those that decoding needs (Linux on x86-64 and arm64)

All layers last until the process ends. Nothing of Careca is imported, because it would make each decoder start slower.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

OFF, AUTO, REQUIRE = "off", "auto", "require"
"""Modes: apply nothing; apply what the kernel supports; fail unless system calls can be filtered."""

USER, LANDLOCK, SECCOMP = "user", "landlock", "seccomp"
LAYERS = (USER, LANDLOCK, SECCOMP)
"""The names of the layers."""

NOBODY = 65534
"""The number of the user and of the group that own nothing."""


class SandboxUnavailable(Exception):
    """The kernel does not allow this process to filter its system calls."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of the system calls on one kind of processor."""

    audit: int
    """The processor's identifier in filters."""
    seccomp: int
    capset: int
    clone: int
    clone3: int
    mmap: int
    mprotect: int
    tgkill: int
    allowed: tuple[int, ...]
    """System calls that are allowed with any arguments: see ``_ALLOWED_CALLS``."""


# What decoding, the interpreter's exit and the C library's threads need: memory, time, and files that are open.
# read write close lseek ftruncate munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64 readv writev
# sched_yield mremap madvise nanosleep getpid exit exit_group getrusage sigaltstack gettid futex sched_getaffinity
# restart_syscall clock_gettime clock_getres clock_nanosleep set_robust_list getrandom rseq membarrier
_ALLOWED_CALLS = {
    "x86_64": (
        *(0, 1, 3, 8, 77, 11, 12, 13, 14, 15, 17, 18, 19, 20),
        *(24, 25, 28, 35, 39, 60, 231, 98, 131, 186, 202, 204),
        *(219, 228, 229, 230, 273, 318, 334, 324),
    ),
    "aarch64": (
        *(63, 64, 57, 62, 46, 215, 214, 134, 135, 139, 67, 68, 65, 66),
        *(124, 216, 233, 101, 172, 93, 94, 165, 132, 178, 98, 123),
        *(128, 113, 114, 115, 99, 278, 293, 283),
    ),
}

_ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 317, 126, 56, 435, 9, 10, 234, _ALLOWED_CALLS["x86_64"]),
    "aarch64": Architecture(0xC00000B7, 277, 91, 220, 435, 222, 226, 131, _ALLOWED_CALLS["aarch64"]),
}

_EPERM, _ENOSYS = 1, 38

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522

# The same on all processors since they were added to Linux 5.13.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_RET_KILL_PROCESS, _RET_ERRNO, _RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

# The offsets in struct seccomp_data, the input of a filter.
_NUMBER, _ARCH = 0, 4
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06

_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_CLONE_NEW_NAMESPACES = 0x7E020000

Instruction = tuple[int, int, int, int]
"""An instruction of the filter: code, instructions to skip if true, instructions to skip if false, constant."""


def enter_sandbox(mode: str, set_limits: Callable[[], None]) -> list[str]:
    """Applies the layers to this process, with ``set_limits`` before the last one. Returns the active layers.

    Args:
        mode: ``OFF``, ``AUTO`` or ``REQUIRE``.
        set_limits: sets resource limits. No file descriptor need be free afterwards.

    Raises ``SandboxUnavailable`` if system calls cannot be filtered and ``mode`` is ``REQUIRE``.
    """
    if mode == OFF or sys.platform != "linux":
        set_limits()
        if mode == REQUIRE:
            raise SandboxUnavailable("the sandbox needs Linux")
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    layers = [name for name, apply in ((USER, _drop_privileges), (LANDLOCK, _restrict_access)) if _applied(apply, libc)]
    set_limits()
    try:
        _filter_system_calls(libc)
    except OSError as error:
        if mode == REQUIRE:
            raise SandboxUnavailable(str(error)) from error
        return layers
    return [*layers, SECCOMP]


def _applied(apply: Callable[[ctypes.CDLL], bool], libc: ctypes.CDLL) -> bool:
    """Applies a layer. Returns whether it is active: the kernel may not support it or, in a container, not allow it."""
    try:
        return apply(libc)
    except OSError:
        return False


def _drop_privileges(libc: ctypes.CDLL) -> bool:
    """Gives up all privileges. Returns whether the process ran as root."""
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    was_root = os.geteuid() == 0
    try:
        if was_root:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    finally:
        none = struct.pack("6I", 0, 0, 0, 0, 0, 0)  # permitted, effective, inheritable: 64 bits in two halves
        _check(libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), none))
    return was_root


def _restrict_access(libc: ctypes.CDLL) -> bool:
    """Forbids opening paths and using ports from now on, with Landlock. What is open stays open."""
    nothing = ctypes.c_size_t(0)
    version = _check(libc.syscall(_LANDLOCK_CREATE_RULESET, None, nothing, _LANDLOCK_CREATE_RULESET_VERSION))
    rights = 1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))
    handled = [rights - 1, *([0b11] if version >= 4 else []), *([0b11] if version >= 6 else [])]
    attributes = struct.pack(f"{len(handled)}Q", *handled)
    ruleset = _check(libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        _check(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _filter_system_calls(libc: ctypes.CDLL) -> None:
    """Makes the kernel refuse all system calls but those of ``filter_program``, in every thread. Raises ``OSError``."""
    name = os.uname().machine
    architecture = _ARCHITECTURES.get(name)
    if architecture is None or struct.calcsize("P") != 8:
        raise OSError(_ENOSYS, f"no filter is known for {name}")
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in filter_program(architecture, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if thread := _check(
        libc.syscall(architecture.seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, header)
    ):
        raise OSError(_EPERM, f"thread {thread} has a filter of its own")


def filter_program(architecture: Architecture, process_id: int) -> list[Instruction]:
    """Returns the filter for the process with this id on this architecture."""
    allow, refuse = _return(_RET_ALLOW), _return(_RET_ERRNO | _EPERM)
    filtered: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, architecture.audit),
        _return(_RET_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in architecture.allowed:
        filtered += _if_call(number, [allow])
    # Only threads, no new processes. A filter cannot see the arguments of clone3; without it, libraries use clone.
    filtered += _if_call(architecture.clone3, [_return(_RET_ERRNO | _ENOSYS)])
    filtered += _if_call(
        architecture.clone,
        _low_argument(0, _CLONE_THREAD | _CLONE_NEW_NAMESPACES, equals=_CLONE_THREAD),
        [allow, refuse],
    )
    # No executable memory: no more libraries are loaded, and no injected code can run.
    for number in (architecture.mmap, architecture.mprotect):
        filtered += _if_call(number, _low_argument(2, _PROT_EXEC, equals=0), [allow, refuse])
    # Signals only to threads of this process, as abort sends.
    filtered += _if_call(architecture.tgkill, _low_argument(0, 0xFFFFFFFF, equals=process_id), [allow, refuse])
    return [*filtered, refuse]


def _return(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)


def _if_call(number: int, *parts: Sequence[Instruction]) -> list[Instruction]:
    """Returns ``parts``, which end with a return, to be run only for the system call with this number."""
    body = [instruction for part in parts for instruction in part]
    return [(_EQUAL, 0, len(body), number), *body]


def _low_argument(index: int, mask: int, *, equals: int) -> list[Instruction]:
    """Continues with the next instruction if the masked argument equals the value, else with the one after it."""
    return [(_LOAD, 0, 0, 16 + 8 * index), (_AND, 0, 0, mask), (_EQUAL, 0, 1, equals)]


def _check(answer: int) -> int:
    """Returns the result of a C library call. Raises ``OSError`` if it failed."""
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
