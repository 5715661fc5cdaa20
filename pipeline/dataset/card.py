"""The data set's own account of itself: ``dataset.json`` for programs, ``README.md`` (the dataset card) for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pipeline.clock import FPS, SAMPLE_RATE_HZ, seconds_of
from pipeline.dataset.labels import Labels, labels_blocks
from pipeline.dataset.store import Store
from pipeline.dataset.write import PackSettings, PlannedShard, packed_columns, write_description
from pipeline.ledger.survey import Survey
from pipeline.manifest.clips_csv import ClipRow
from pipeline.manifest.load import Manifest
from pipeline.plan import Pipeline
from pipeline.sources.availability import OK as AVAILABLE
from pipeline.sources.missing import describe_sources
from pipeline.tables import markdown_table
from schemas.clip import ATTITUDES, CLIP_COLUMNS, SPLITS
from schemas.dataset import BUILT, MANIFEST, ColumnEntry, Description, Maker, MissingClip, Shard, SourceEntry


def describe_dataset(
    manifest: Manifest, pipeline: Pipeline, found: Survey, shards: Sequence[PlannedShard], settings: PackSettings
) -> Description:
    """The description of a build: columns, who made them, shards, what is missing and why."""
    sources = {clip.clip_id: clip.source_id for clip in manifest.clips if clip.clip_id in found.missing}
    return Description(
        name=manifest.name,
        kind=BUILT,
        fps=FPS,
        sample_rate_hz=SAMPLE_RATE_HZ,
        columns=(
            *(ColumnEntry.of(column, MANIFEST) for column in CLIP_COLUMNS),
            *(ColumnEntry.of(column, pipeline.writer[column.name]) for column in pipeline.columns.values()),
        ),
        packed=tuple(column.name for column in (*CLIP_COLUMNS, *packed_columns(pipeline, settings))),
        stages={
            name: Maker(**identity, code_sha256=pipeline.codes[name].sha256)
            for name, identity in pipeline.identity.items()
        },
        pack=asdict(settings),
        shards=tuple(Shard(s.name, len(s.clips), s.fingerprint) for s in shards),
        wanted=len(manifest.clips),
        missing=tuple(
            MissingClip(clip_id, sources[clip_id], stage, row.outcome, row.reason, row.last_line())
            for clip_id, (stage, row) in sorted(found.missing.items())
        ),
        takedown=manifest.takedown,
        sources=describe_sources(manifest),
    )


def write_card(store: Store, description: Description, clips: Sequence[ClipRow], labels: Labels | None = None) -> None:
    """Write the card, then ``dataset.json``."""
    store.write_text(store.root / "README.md", dataset_card(description, clips, labels))
    write_description(store, description)


def dataset_card(description: Description, clips: Sequence[ClipRow], labels: Labels | None = None) -> str:
    """The dataset card in Markdown, with the header that ``datasets.load_dataset`` reads.

    ``clips`` are the published ones, for the counts of the ViCo paper's Table 2; ``labels`` says what people voted.
    """
    blocks = [
        _header(description),
        f"# {description.name}",
        f"A ViCo-style listening-head data set: {description.published} of {description.wanted} clips, each a speaker "
        f"and a listener on one clock of {FPS} frames a second, sound at {SAMPLE_RATE_HZ} Hz.",
        *_chosen_blocks(description),
        "## Clips",
        _counts_table(clips, description.sources),
        _split_table(clips),
        *labels_blocks(labels),
        "## Columns",
        markdown_table(
            ["column", "type", "unit", "made by", "meaning"],
            [[f"`{c.name}`", f"`{c.type}`", c.unit, c.stage, c.meaning] for c in description.columns],
        ),
        "Columns of media hold paths relative to this folder. Heavy columns stand in `columns/<stage>/`: "
        + (", ".join(f"`{c.name}`" for c in description.columns if c.name not in description.packed) or "none"),
        "## Made by",
        markdown_table(
            ["stage", "version", "settings", "weights (sha256)", "code (sha256)"],
            [
                [name, str(s.version), f"`{json.dumps(s.settings)}`", _short_hashes(s.weights), s.code_sha256[:12]]
                for name, s in description.stages.items()
            ],
        ),
        "## Missing",
        markdown_table(
            ["clip", "stage", "outcome", "reason", "detail"],
            [[m.clip_id, m.stage, m.outcome, _cell(m.reason), _cell(m.detail)] for m in description.missing],
        )
        if description.missing
        else f"Nothing: every clip {'that was chosen' if description.chosen else 'of the manifest'} is here.",
        *_sources_blocks(description.sources),
        "## Licences",
        markdown_table(
            ["source", "file", "licence"], [[name, s.file, _cell(s.licence)] for name, s in description.sources.items()]
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _chosen_blocks(description: Description) -> list[str]:
    """Which clips of another data set these are; nothing where they are all there are."""
    chosen = description.chosen
    if not chosen:
        return []
    told = (
        f"These are {description.published} of the {chosen.clips} clips of `{chosen.of}`, those for which this holds:"
    )
    return ["## Chosen", told, f"```\n{chosen.where}\n```"]


def _sources_blocks(sources: Mapping[str, SourceEntry]) -> list[str]:
    """How much of a data set of links could be rebuilt, and what could not; nothing where there are no links."""
    linked = {name: source for name, source in sources.items() if source.url}
    lost = {name: source for name, source in linked.items() if source.availability != AVAILABLE}
    if not linked:
        return []
    had = len(linked) - len(lost)
    share = f"{had} of {len(linked)} linked sources ({1 - len(lost) / len(linked):.0%}) could be had."
    rows = [[name, s.url, s.availability, s.date[:10], _cell(s.message)] for name, s in lost.items()]
    table = [markdown_table(["source", "url", "why not", "asked on", "message"], rows)] if rows else []
    return ["## Sources", share, *table]


def _header(description: Description) -> str:
    splits = description.splits_held()
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    lines += [f"  - {{split: {split}, path: shards/{split}-*.parquet}}" for split in SPLITS if split in splits]
    return "\n".join([*lines, "---"])


def _counts_table(clips: Sequence[ClipRow], sources: Mapping[str, SourceEntry]) -> str:
    """The counts of the ViCo paper's Table 2; pairs that were cut from one film are of one video."""
    videos = {name: source.video or name for name, source in sources.items()}
    groups = [(name, [clip for clip in clips if clip.attitude == name]) for name in ATTITUDES]
    groups.append(("not labelled", [clip for clip in clips if clip.attitude is None]))
    rows = [_counts(name, members, videos) for name, members in groups if members]
    return markdown_table(
        ["attitude", "videos", "speakers", "listeners", "ids", "clips", "duration"],
        [*rows, _counts("total", clips, videos)],
    )


def _counts(name: str, clips: Sequence[ClipRow], videos: Mapping[str, str]) -> list[str]:
    speakers = {clip.speaker_id for clip in clips} - {None}  # people without a name cannot be counted
    listeners = {clip.listener_id for clip in clips} - {None}
    shown = {videos.get(clip.source_id, clip.source_id) for clip in clips}
    numbers = [len(shown), len(speakers), len(listeners), len(speakers | listeners), len(clips)]
    return [name, *map(str, numbers), _duration(clips)]


def _duration(clips: Sequence[ClipRow]) -> str:
    seconds = float(seconds_of(sum(clip.span.num_frames for clip in clips)))
    return f"{int(seconds) // 60} min {seconds % 60:.1f} s"


def _split_table(clips: Sequence[ClipRow]) -> str:
    parts = {split: [clip for clip in clips if clip.split == split] for split in SPLITS}
    frames = {split: sum(clip.span.num_frames for clip in part) for split, part in parts.items()}
    rows = [[split, str(len(part)), str(frames[split]), _duration(part)] for split, part in parts.items() if part]
    return markdown_table(["split", "clips", "frames", "duration"], rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _short_hashes(weights: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {sha256[:12]}" for name, sha256 in weights.items()) or "none"
