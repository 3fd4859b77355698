"""Which of a server's two pools takes a call: the GPU service or its CPU twin."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from mcp_gateway.reader import Reader
from mcp_gateway.upstream.replicas import Replicas

TOOLS_KEPT = 4096
GPU_USES = ("none", "preferred", "required")


class Pool(StrEnum):
    """Label of metrics and traces."""

    GPU = "gpu"
    CPU = "cpu"


class Reason(StrEnum):
    """Why a pool was chosen; label of metrics and traces."""

    NO_GPU = "no-gpu"
    REQUIRED = "gpu-required"
    PREFERRED = "gpu-preferred"
    LIGHT = "light"
    GPU_DOWN = "gpu-down"
    GPU_FULL = "gpu-full"
    GPU_HOT = "gpu-hot"
    CPU_DOWN = "cpu-down"
    NO_CPU = "no-cpu"


class Choice(NamedTuple):
    """A pool and why."""

    pool: Pool
    reason: Reason


@dataclass(frozen=True)
class PoolSettings:
    """How calls are routed between the pools.

    Attributes:
        gpu: ``none``, ``preferred`` or ``required``.
        gpu_tools: patterns of the tools that need the GPU; none means all tools.
        concurrency: of the GPU pool, calls in flight per replica.
        return_fraction: of its places; below that a full pool counts as free again.
        max_utilisation, return_utilisation: of the GPU, 0 to 1: from the first on it is too hot, below the
            second it is cool again.
        return_seconds: how long the pool must be well before calls go back to it.
    """

    gpu: str = "none"
    gpu_tools: tuple[str, ...] = ()
    concurrency: int = 16
    return_fraction: float = 0.8
    max_utilisation: float = 0.9
    return_utilisation: float = 0.75
    return_seconds: float = 5.0


def read(reader: Reader) -> PoolSettings:
    """The keys of routing: ``gpu``, ``gpu_tools`` and the limits; where the replicas are is read elsewhere."""
    number, d = (int, float), PoolSettings()
    settings = PoolSettings(
        reader.take("gpu", str, d.gpu, lambda v: v in GPU_USES),
        reader.words("gpu_tools", d.gpu_tools),
        reader.take("concurrency", int, d.concurrency, lambda v: v >= 1),
        reader.take("return_fraction", number, d.return_fraction, lambda v: 0 < v <= 1),
        reader.take("max_utilisation", number, d.max_utilisation, lambda v: 0 < v <= 1),
        reader.take("return_utilisation", number, d.return_utilisation, lambda v: 0 < v <= 1),
        reader.take("return_seconds", number, d.return_seconds, lambda v: v >= 0),
    )
    if settings.return_utilisation > settings.max_utilisation:
        reader.errors.append(
            f"{reader.at('return_utilisation')}: {settings.return_utilisation:g} is above max_utilisation "
            f"({settings.max_utilisation:g}); set it lower"
        )
    reader.done()
    return settings


class Pools:
    """Chooses between them.

    Args:
        utilisation: of the GPU now, 0 to 1; None while unknown.
    """

    def __init__(
        self,
        settings: PoolSettings,
        gpu: Replicas | None,
        cpu: Replicas | None,
        utilisation: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._gpu = gpu
        self._cpu = cpu
        self._utilisation = utilisation
        self._clock = clock
        self._away: Reason | None = None
        self._well_at = 0.0
        self._needs: dict[str, bool] = {}

    def choose(self, tool: str | None) -> Choice:
        """The pool for a call of ``tool``, or for another request of the server (None)."""
        gpu, cpu = self._gpu, self._cpu
        if gpu is None or self._settings.gpu == "none":
            return Choice(Pool.CPU, Reason.NO_GPU)
        heavy = tool is not None and self._heavy(tool)
        if heavy and self._settings.gpu == "required":
            return Choice(Pool.GPU, Reason.REQUIRED)
        if cpu is None:
            return Choice(Pool.GPU, Reason.NO_CPU)
        if not cpu.usable:
            return Choice(Pool.GPU, Reason.CPU_DOWN)
        if not heavy:
            return Choice(Pool.CPU, Reason.LIGHT)
        if why := self._why_not(gpu):
            return Choice(Pool.CPU, why)
        return Choice(Pool.GPU, Reason.PREFERRED)

    def _why_not(self, gpu: Replicas) -> Reason | None:
        """Why the GPU is left alone. Once left, it is taken again at lower limits, so that calls do not flap."""
        settings, away = self._settings, self._away
        usable, heat = gpu.usable, self._utilisation()
        places = settings.concurrency * usable
        why = None
        if not usable:
            why = Reason.GPU_DOWN
        elif gpu.inflight >= places or (
            away is Reason.GPU_FULL and gpu.inflight > int(settings.return_fraction * places)
        ):
            why = Reason.GPU_FULL
        elif heat is not None and (
            heat >= settings.max_utilisation or (away is Reason.GPU_HOT and heat >= settings.return_utilisation)
        ):
            why = Reason.GPU_HOT
        if why:
            # A full pool is free with the next answer; only one that was down or hot has to prove itself.
            self._well_at = 0.0 if why is Reason.GPU_FULL else self._clock() + settings.return_seconds
            self._away = why
        elif away and self._clock() >= self._well_at:
            self._away = None
        return self._away

    def _heavy(self, tool: str) -> bool:
        if not self._settings.gpu_tools:
            return True
        known = self._needs.get(tool)
        if known is None:
            if len(self._needs) >= TOOLS_KEPT:  # names come from clients
                self._needs.clear()
            known = any(fnmatchcase(tool, pattern) for pattern in self._settings.gpu_tools)
            self._needs[tool] = known
        return known
