"""What a build does on GPUs. Settings of a build: where a number is computed is no setting of the stage."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.media.sandbox import CPU, NVDEC
from pipeline.stage import Stage, setting

USUAL_SHARE = 0.25  # of a GPU, for a stage that asks for none of itself: four copies keep one busy while they decode


@dataclass(frozen=True)
class GpuSettings:
    """``[stages.gpu]`` in the manifest, ``--set gpu.decoder=nvdec``; without a GPU they change nothing."""

    stages: tuple[str, ...] = setting(
        (), "stages that run on a GPU beside those that ask for one themselves; face and landmarks can"
    )
    share: float = setting(
        0.0,
        "share of a GPU that one copy of such stages gets, alike for all of them; 0: what each asks for, or a quarter",
    )
    decoder: str = setting(
        CPU, "what decodes films for stages on a GPU: cpu, or nvdec, the GPU's own", choices=(CPU, NVDEC)
    )

    def share_of(self, stage: Stage) -> float:
        """Share of a GPU that one copy of a stage gets where the cluster has some."""
        own = float(stage.gpus())
        return (self.share or own or USUAL_SHARE) if own or stage.name in self.stages else 0.0


NO_GPU_SETTINGS = GpuSettings()
