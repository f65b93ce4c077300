"""Takes from the process of a decoder all that it does not need: run by ``careca_gateway.decoding.process``.

FFmpeg is a million lines of C that read what strangers made. Whoever finds a fault in it should find nothing beyond it:
no file, no network, no other process. Three layers see to that, each of which any process may lay upon itself, so that
neither root nor a namespace is needed, and the last of which alone would do:

    user        where the process is root's: it goes on as nobody, without a capability
    landlock    no path can be opened, no port be bound or called, no process outside be signalled (Linux 5.13, newer)
    seccomp     the kernel refuses every system call but those that decoding makes (Linux on x86-64 and arm64)

All of it holds until the process ends: nothing here can be taken back. Nothing of Careca is imported, as it would make
the start of each decoder longer.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

OFF, AUTO, REQUIRE = "off", "auto", "require"
"""Confine nothing; confine as far as the kernel can; refuse to go on without a filter of system calls."""

USER, LANDLOCK, SECCOMP = "user", "landlock", "seccomp"
LAYERS = (USER, LANDLOCK, SECCOMP)
"""The names of the layers."""

NOBODY = 65534
"""Number of the user and of the group that own nothing."""


class SandboxUnavailable(Exception):
    """The kernel does not let this process filter its system calls."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How the kernel counts its system calls on one kind of processor."""

    audit: int
    """What a filter is told in place of the processor's name."""
    seccomp: int
    capset: int
    clone: int
    clone3: int
    mmap: int
    mprotect: int
    tgkill: int
    harmless: tuple[int, ...]
    """Calls that may be made with any arguments: see ``_HARMLESS``."""


# What decoding, the interpreter's end and the C library's threads do: all with memory, time and files that are open.
# read write close lseek ftruncate munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64 readv writev
# sched_yield mremap madvise nanosleep getpid exit exit_group getrusage sigaltstack gettid futex sched_getaffinity
# restart_syscall clock_gettime clock_getres clock_nanosleep set_robust_list getrandom rseq membarrier
_HARMLESS = {
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

_MACHINES = {
    "x86_64": Machine(0xC000003E, 317, 126, 56, 435, 9, 10, 234, _HARMLESS["x86_64"]),
    "aarch64": Machine(0xC00000B7, 277, 91, 220, 435, 222, 226, 131, _HARMLESS["aarch64"]),
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

# Where a filter finds what it is asked about, in struct seccomp_data.
_NUMBER, _ARCH = 0, 4
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06

_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_CLONE_NEW_NAMESPACES = 0x7E020000

Instruction = tuple[int, int, int, int]
"""One of the filter's: code, how many to skip where it holds, where it does not, and its constant."""


def confine(how: str, set_limits: Callable[[], None]) -> list[str]:
    """Confines this process, with ``set_limits`` called before nothing can be changed any more; the layers that hold.

    Args:
        how: ``OFF``, ``AUTO`` or ``REQUIRE``.
        set_limits: may leave no file descriptor free.

    Raises ``SandboxUnavailable`` where system calls cannot be filtered and ``how`` is ``REQUIRE``.
    """
    if how == OFF or sys.platform != "linux":
        set_limits()
        if how == REQUIRE:
            raise SandboxUnavailable("only Linux can confine a process so")
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    layers = [name for name, lay in ((USER, _drop_privileges), (LANDLOCK, _close_paths)) if _lays(lay, libc)]
    set_limits()
    try:
        _filter_system_calls(libc)
    except OSError as error:
        if how == REQUIRE:
            raise SandboxUnavailable(str(error)) from error
        return layers
    return [*layers, SECCOMP]


def _lays(layer: Callable[[ctypes.CDLL], bool], libc: ctypes.CDLL) -> bool:
    """Whether ``layer`` holds now. The kernel may not know it or, in a container, not grant it."""
    try:
        return layer(libc)
    except OSError:
        return False


def _drop_privileges(libc: ctypes.CDLL) -> bool:
    """Gives up every privilege; whether another user's process was made of root's."""
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


def _close_paths(libc: ctypes.CDLL) -> bool:
    """Lets no path be opened from now on, whatever for, and no port be used; what is open stays open."""
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
    """Lets the kernel refuse all calls but those of ``program``, in every thread. Raises ``OSError``."""
    name = os.uname().machine
    machine = _MACHINES.get(name)
    if machine is None or struct.calcsize("P") != 8:
        raise OSError(_ENOSYS, f"no filter is known for {name}")
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if thread := _check(libc.syscall(machine.seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, header)):
        raise OSError(_EPERM, f"thread {thread} has a filter of its own")


def program(machine: Machine, process_id: int) -> list[Instruction]:
    """The filter: what may be done by the process of that id on such a machine."""
    allow, refuse = _answer(_RET_ALLOW), _answer(_RET_ERRNO | _EPERM)
    filtered: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, machine.audit),
        _answer(_RET_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in machine.harmless:
        filtered += _where(number, [allow])
    # No new process, only threads: what else clone3 is asked for cannot be seen here, and without it clone is used.
    filtered += _where(machine.clone3, [_answer(_RET_ERRNO | _ENOSYS)])
    filtered += _where(
        machine.clone, _low_argument(0, _CLONE_THREAD | _CLONE_NEW_NAMESPACES, equals=_CLONE_THREAD), [allow, refuse]
    )
    # No memory that can be executed: nothing is loaded any more, and no code of others is run.
    for number in (machine.mmap, machine.mprotect):
        filtered += _where(number, _low_argument(2, _PROT_EXEC, equals=0), [allow, refuse])
    # Threads of this process alone may be signalled: abort does so.
    filtered += _where(machine.tgkill, _low_argument(0, 0xFFFFFFFF, equals=process_id), [allow, refuse])
    return [*filtered, refuse]


def _answer(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)


def _where(number: int, *parts: Sequence[Instruction]) -> list[Instruction]:
    """``parts``, which answer in the end, for the system call of that number only."""
    body = [instruction for part in parts for instruction in part]
    return [(_EQUAL, 0, len(body), number), *body]


def _low_argument(index: int, mask: int, *, equals: int) -> list[Instruction]:
    """Goes on with the next instruction where that argument, masked, is as told, else with the one after it."""
    return [(_LOAD, 0, 0, 16 + 8 * index), (_AND, 0, 0, mask), (_EQUAL, 0, 1, equals)]


def _check(answer: int) -> int:
    """What a call of the C library answered. Raises ``OSError`` where it failed."""
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
