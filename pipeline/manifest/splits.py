"""Splits without leaks: the ViCo rule.

Identities of ``test`` are seen in ``train``; identities of ``ood`` are not (Zhou et al., ECCV 2022, section 3). Here a
source video may not stand in both ``train`` and ``ood`` either: it would carry its room, light and microphone along.

Ids may hide who is who. Where a built data set has the faces of the clips (``[dataset] faces``), ids that show one face
(`pipeline.dataset.leaks`) count as one here.

A person may be unknown (None). Whether ``train`` has shown them cannot be checked, so derived splits leave their clips
in ``train``, and a data set that has both splits and an unknown person in either of them gets a warning.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dataset.leaks import PERSON, Leak
from pipeline.manifest.clips_csv import ClipRow
from pipeline.settings import LARGEST_WHOLE, shown
from schemas.errors import UserError


@dataclass(frozen=True)
class SplitRule:
    """Shares of clips that go to ``test`` and ``ood``; the rest is ``train``."""

    test: float
    ood: float
    seed: int = 0

    @staticmethod
    def parse(table: Any) -> SplitRule:
        """The rule from the manifest's ``[dataset] split`` table."""
        example = "{test = 0.1, ood = 0.1, seed = 0}"
        if not isinstance(table, dict) or set(table) - {"test", "ood", "seed"}:
            raise UserError(f"[dataset] split: found {shown(table)}, allowed: a table such as {example}")
        shares = [table.get("test", 0.0), table.get("ood", 0.0)]
        numbers = [s for s in shares if isinstance(s, int | float) and not isinstance(s, bool) and 0 <= s < 1]
        seed = table.get("seed", 0)
        is_seed = isinstance(seed, int) and abs(seed) <= LARGEST_WHOLE
        if len(numbers) != len(shares) or sum(shares) >= 1 or not is_seed:
            raise UserError(f"[dataset] split: found {shown(table)}, allowed: shares below 1 in sum, such as {example}")
        return SplitRule(float(shares[0]), float(shares[1]), int(seed))


Key = tuple[str, str]  # ("identity" or "source", id)


def keys_of(leaks: Iterable[Leak]) -> dict[tuple[Key, Key], Leak]:
    """What is one person although it has two keys, and what says so. Somebody unknown goes with the clip's source."""
    found = {}
    for leak in leaks:
        one, other = (
            ("identity", row.person) if row.person else ("source", row.source_id) for row in (leak.one, leak.other)
        )
        if leak.kind == PERSON and one != other:
            found[one, other] = leak
    return found


def derive_splits(clips: Sequence[ClipRow], rule: SplitRule, same: Collection[tuple[Key, Key]] = ()) -> dict[str, str]:
    """A split for every clip: ``ood`` takes whole groups of connected people, ``test`` clips of people left in train.

    Clips of which a person is unknown stay in ``train``.

    ``same`` are pairs of keys of `keys_of`. Deterministic: it depends on ids and the seed, not on the order of rows.
    """
    order = sorted(clips, key=lambda clip: _draw(rule.seed, clip.clip_id))
    splits = {clip.clip_id: "train" for clip in clips}
    room = rule.ood * len(clips)
    for group in _connected(order, same):
        if len(group) <= room and not any(map(_is_anonymous, group)):
            room -= len(group)
            splits.update((clip.clip_id, "ood") for clip in group)
    room = rule.test * len(clips)
    seen = Counter(person for clip in clips if splits[clip.clip_id] == "train" for person in _people(clip))
    for clip in order:
        movable = splits[clip.clip_id] == "train" and not _is_anonymous(clip)
        if room >= 1 and movable and all(seen[person] > 1 for person in _people(clip)):
            room -= 1
            seen.subtract(_people(clip))
            splits[clip.clip_id] = "test"
    return splits


def check_splits(
    path: Path, clips: Sequence[ClipRow], splits: Mapping[str, str], same: Mapping[tuple[Key, Key], Leak] | None = None
) -> list[str]:
    """Warnings on the splits of a data set, one of a kind, with the number of clips.

    `UserError`, which names both rows, if an identity or a source stands in both ``train`` and ``ood``, under one id or
    under two of which the faces say, by `keys_of`, that they are one.
    """
    train = [clip for clip in clips if splits[clip.clip_id] == "train"]
    in_train = {key: clip for clip in train for key in _keys(clip)}
    new_people = []  # test clips and the person that train does not show
    for clip in clips:
        shared = [key for key in _keys(clip) if key in in_train]
        if splits[clip.clip_id] == "ood" and shared:
            kind, name = shared[0]
            raise UserError(
                f"{path}, lines {in_train[shared[0]].line} and {clip.line}: {kind} {name!r} stands in both train and "
                f"ood; ood must hold only people and sources that train never shows"
            )
        new = [person for person in sorted(_people(clip)) if ("identity", person) not in in_train]
        if splits[clip.clip_id] == "test" and train and new:
            new_people.append((clip, new[0]))
    in_ood = {key: clip for clip in clips if splits[clip.clip_id] == "ood" for key in _keys(clip)}
    for pair, leak in (same or {}).items():
        for ours, theirs in (pair, pair[::-1]):
            if ours in in_train and theirs in in_ood:
                raise UserError(
                    f"{path}, lines {in_train[ours].line} and {in_ood[theirs].line}: {ours[0]} {ours[1]!r} stands in "
                    f"train and {theirs[0]} {theirs[1]!r} in ood; {leak}: give them one id, or one split"
                )
    warnings = []
    if new_people:
        clip, person = new_people[0]
        warnings.append(
            f"{path}: {len(new_people)} test clips show people who are not in train, first line {clip.line}, "
            f"identity {person!r}; ViCo calls that ood"
        )
    unknown = Counter(splits[clip.clip_id] for clip in clips if _is_anonymous(clip))
    if {"train", "ood"} <= set(splits.values()) and (unknown["train"] or unknown["ood"]):
        warnings.append(
            f"{path}: {unknown['train']} clips of train and {unknown['ood']} of ood leave speaker_id or listener_id "
            "empty; whether ood shows people of train cannot be checked: name them where you can"
        )
    return warnings


def _is_anonymous(clip: ClipRow) -> bool:
    """Whether the speaker or the listener of a clip is unknown."""
    return clip.speaker_id is None or clip.listener_id is None


def _people(clip: ClipRow) -> set[str]:
    """The people of a clip who are known."""
    return {person for person in (clip.speaker_id, clip.listener_id) if person is not None}


def _keys(clip: ClipRow) -> list[Key]:
    return [("source", clip.source_id)] + [("identity", person) for person in sorted(_people(clip))]


def _connected(clips: Sequence[ClipRow], same: Iterable[tuple[Key, Key]]) -> list[list[ClipRow]]:
    """Groups of clips that share people or sources, directly or through others; first seen first."""
    parent: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for clip in clips:
        first, *others = _keys(clip)
        for other in others:
            parent[root(other)] = root(first)
    for one, other in same:
        parent[root(other)] = root(one)
    groups: dict[Key, list[ClipRow]] = defaultdict(list)
    for clip in clips:
        groups[root(_keys(clip)[0])].append(clip)
    return list(groups.values())


def _draw(seed: int, clip_id: str) -> str:
    return hashlib.sha256(f"{seed}:{clip_id}".encode()).hexdigest()
