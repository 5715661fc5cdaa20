"""A clip: a span of a source in which one person speaks and the other listens, on an integer frame grid at 30 fps."""

from __future__ import annotations

import re

from schemas.column import Column

ATTITUDES = ("positive", "neutral", "negative")
SPLITS = ("train", "val", "test", "ood")
SIDES = ("left", "right")

# Other people's CSVs become file names: nothing else may. A file of a device's name cannot be made on Windows shares.
ID_PATTERN = re.compile(r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)\Z)[A-Za-z0-9_-]{1,64}")
ID_MEANING = "1 to 64 of the characters A-Z a-z 0-9 _ - and no name of a Windows device such as NUL"

CLIP_COLUMNS = (
    Column("clip_id", "string", meaning="identity of the clip: source, start and end joined by _"),
    Column("source_id", "string", meaning="the source video it was cut from"),
    Column("start_s", "float64", unit="s", meaning="start of the clip in the source"),
    Column("end_s", "float64", unit="s", meaning="end of the clip in the source"),
    Column("num_frames", "int32", unit="frame", meaning="rows of every per-frame column and frames of both videos"),
    Column("attitude", "string", meaning="the listener's attitude: positive, neutral or negative"),
    Column("speaker_id", "string", meaning="identity of the speaker across clips"),
    Column("listener_id", "string", meaning="identity of the listener across clips"),
    Column("split", "string", meaning="train, val, test (identities seen in train) or ood (identities not seen)"),
    Column("speaker_side", "string", meaning="side on which the speaker sits: left or right; none in cropped pairs"),
)
"""What the manifest says of a clip; every other column is written by a stage."""
