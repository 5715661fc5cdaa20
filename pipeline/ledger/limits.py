"""What one clip may cost: time, memory and attempts. Settings of a build that change no output, only who gets one."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.stage import setting

GB = 10**9


@dataclass(frozen=True)
class Limits:
    """``[stages.limits]`` in the manifest, ``--set limits.stage_s=60``."""

    stage_s: float = setting(600.0, "longest time of a stage on one clip, and of its setup; 0: no limit")
    frame_s: float = setting(1.0, "what every frame of the clip adds to it")
    memory_gb: float = setting(12.0, "largest memory of a worker process, in 10^9 bytes; 0: no limit")
    attempts: int = setting(2, "how often a clip may take its worker process down in one run")
    attempts_in_all: int = setting(10, "the same over all runs, kills that came from outside included")

    def seconds(self, num_frames: int) -> float:
        """The time that a stage has for so many frames; 0 for no limit."""
        return self.stage_s + self.frame_s * num_frames if self.stage_s else 0.0

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gb * GB)
