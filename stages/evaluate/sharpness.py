"""CPBD: how sharp a picture looks, without a reference.

Source
------
Narvekar and Karam, "A No-Reference Image Blur Metric Based on the Cumulative Probability of Blur Detection (CPBD)",
TIP 2011, of the Image, Video and Usability Lab, Arizona State University; Marziliano et al., ICIP 2002, for the widths
of edges.
"""

from __future__ import annotations

from stages.evaluate.definition import PREDICTED, Definition, Direction, Pooling


def cpbd(frames):
    raise NotImplementedError


DEFINITIONS = (
    Definition(
        id="cpbd",
        name="CPBD",
        published_as="CPBD, ViCo Table 4; ViCo challenge; HSP Table 1; MFR-Net Table 2",
        formula="share of edge widths whose blur a person would notice with a probability below 64 %, mean over frames",
        source="Narvekar and Karam, TIP 2011; python-cpbd 1.0.7, which compute_cpbd.py of the ViCo baseline runs",
        unit="",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.HIGHER,
        inputs=(f"{PREDICTED}.frames",),
        min_frames=1,
        function=cpbd,
        perfect=None,
        warning="one grey level of noise moves it by a fifth; an ideal step has 0",
    ),
)
