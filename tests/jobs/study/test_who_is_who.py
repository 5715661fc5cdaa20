"""The study of who is who, on pictures of one real face (Eileen Collins, NASA, public domain) and of none."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from jobs.study.who_is_who import main


def test_one_face_in_two_pictures_is_one_person_and_a_picture_of_nobody_is_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, face = tmp_path / "pictures", cv2.cvtColor(skimage.data.astronaut()[:300, 60:400], cv2.COLOR_RGB2BGR)
    folder.mkdir()
    darker = cv2.resize(face, None, fx=1.7, fy=1.7) * 0.6
    noise = np.random.default_rng(0).integers(0, 255, face.shape)
    for name, picture in (("light", face), ("dark", darker), ("noise", noise)):
        cv2.imwrite(str(folder / f"{name}.png"), picture.astype(np.uint8))
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    (header, row) = capsys.readouterr().out.splitlines()
    assert header.startswith("person") and "pictures/dark.png" in row and "pictures/light.png" in row
    with (tmp_path / "out" / "people.csv").open(newline="") as file:
        looks = list(csv.DictReader(file))
    assert [look["film"] for look in looks] == ["pictures/dark.png", "pictures/light.png"]
    assert {look["person"] for look in looks} == {"p0001"} and float(looks[0]["spread"]) < 0.3
