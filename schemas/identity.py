"""Whose face: dlib's embeddings (King 2017), and which distances of them mean what.

The cut was chosen before this project measured anything: dlib's own .6 tells single pictures apart on LFW, and who
builds data of this kind found .23 and .28 for people who return and .55 and more for others (means of several frames).
docs/people.md has what it leaves and what it finds in open media.
"""

from __future__ import annotations

COLUMN = "{role}_face_identity"
DIMENSIONS = 128
ONE_PERSON = 0.4  # two faces, each a mean of several frames, that are nearer are taken for one person
TWO_PEOPLE = 0.55  # and those that are further apart are not
