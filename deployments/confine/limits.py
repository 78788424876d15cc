"""What one child may use: memory, processor time, files and processes (getrlimit(2))."""

from __future__ import annotations

import math
import os
import resource
from dataclasses import dataclass
from typing import Final, Self

from deployments.confine.privileges import no_core_files, not_dumpable

_OPEN_FILES: Final = 1024
_PROCESSES: Final = 4096
_CPU_MARGIN_S: Final = 30
_CPU_GRACE_S: Final = 5
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLimits:
    """Limits of one child.

    Attributes:
        memory_mb: MiB of its own data: heap, private mappings and stacks, but not the libraries,
            whose address space says nothing of what is used.
        cpu_s: seconds of processor time, of all its threads together.
    """

    memory_mb: int
    cpu_s: int

    @classmethod
    def within(cls, *, memory_mb: int, cpu_s: int, deadline_s: float) -> Self:
        """Returns the limits of a round: no more time than all cores give until its deadline."""
        cores = len(os.sched_getaffinity(0))
        until_deadline = math.ceil(deadline_s) * cores + _CPU_MARGIN_S
        return cls(memory_mb=memory_mb, cpu_s=min(cpu_s, until_deadline))


def limit_child(limits: ChildLimits) -> None:
    """Sets the limits on this process, so that nothing in it can raise them again."""
    no_core_files()
    not_dumpable()
    for kind, value, grace in (
        (resource.RLIMIT_DATA, limits.memory_mb * _MEBIBYTE, 0),
        # At the first the kernel says why the child ends (SIGXCPU), at the second it kills it.
        (resource.RLIMIT_CPU, limits.cpu_s, _CPU_GRACE_S),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, 0),
        (resource.RLIMIT_NPROC, _PROCESSES, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = value + grace if hard == resource.RLIM_INFINITY else min(value + grace, hard)
        resource.setrlimit(kind, (min(value, most), most))
