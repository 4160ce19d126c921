"""The machine that a benchmark runs on; its memory; and processes that are held to limits.

Memory is read from /proc, so the benchmarks run on Linux.
"""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from m4.solving import processors

GIGABYTE = 1e9
LIBRARIES = ("numpy", "scipy", "numba", "cvxpy")
ROOT = Path(__file__).resolve().parents[1]

Ending = Literal["done", "time", "memory", "failed"]


def describe(libraries: Sequence[str] = LIBRARIES) -> str:
    """One sentence: processor, cores, memory, how busy it is, Python and library versions."""
    found = [f"{name} {installed(name) or 'missing'}" for name in libraries]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    return (
        f"{_processor()}, {processors()} cores, {memory:.0f} GB of memory, load "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, "
        f"{', '.join(found)}"
    )


def installed(library: str) -> str | None:
    """Version of a library, or None where it is missing."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Its name, with family and model: virtual machines often hide the name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in fields.items()}
    if "model name" not in facts:
        return platform.machine()
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    return _status("self", "VmHWM")


def _status(process: int | str, field: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0  # it has just ended


@dataclass(frozen=True)
class Ended:
    """How a process came to its end: by itself, at a limit, or with an error."""

    how: Ending
    output: str
    error: str


def run_limited(module: str, argument: str, *, memory: float) -> Ended:
    """Run `python -m module argument` and stop it where it holds more than `memory` bytes.

    The process limits its own time, by `limit_time`: how long it took to start does not count.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    too_large = False
    try:
        while True:
            try:
                output, error = process.communicate(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                if not too_large and _resident(process.pid) > memory:
                    too_large = True
                    process.kill()
    finally:
        process.kill()
    if too_large:
        return Ended("memory", output, error)
    if process.returncode == -signal.SIGALRM:
        return Ended("time", output, error)
    return Ended("failed" if process.returncode else "done", output, error)


def _resident(process: int) -> int:
    try:
        return _status(process, "VmRSS")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def limit_time(seconds: float) -> None:
    """End this process so many seconds from now, also amid compiled code; 0 lifts the limit."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


class Clock:
    """Seconds since it was made, or since the last lap."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap; starts the next."""
        now = time.perf_counter()
        passed, self._start = now - self._start, now
        return passed


def seconds_of(work: Callable[[], object], *, repeats: int = 5) -> float:
    """The least of several timings of some work, in seconds; it is done once before."""
    work()
    timings = []
    for _ in range(repeats):
        clock = Clock()
        work()
        timings.append(clock.lap())
    return min(timings)
