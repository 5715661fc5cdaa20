"""The viewer on object storage says what it says of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.viewer.data import Answers, data_routes
from jobs.viewer.opened import Opened
from pipeline.dataset.storage import Location
from tests.labs.s3_server import s3_server
from tests.labs.toy_build import ToyProject
from tests.labs.viewing import serving
from tests.reliability.test_storage import READER


def told(root: Location) -> tuple[Any, ...]:
    answers = Answers(Opened(root))
    answers.refresh()
    answers.index.wait()
    clips = json.loads(answers.clips())
    version = clips.pop("version")
    names = [one["name"] for one in answers.dataset()["measures"]]
    numbers = answers.measures(names, version)
    columns = {one: answers.column(one, "wave").tolist() for one in clips["ids"]}
    return clips, names, np.nan_to_num(numbers).tolist(), columns, answers.rejects(), answers.overview()


@pytest.mark.slow
def test_object_storage_shows_as_a_folder_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path / "cache"))
    toy = ToyProject(tmp_path)
    toy.add_stage("reader", READER)
    toy.build("local")
    with s3_server() as server:
        remote = server.root("viewer")
        toy.build(remote)
        here = told(tmp_path / "local")
        assert told(remote) == here and len(here[0]["ids"]) == 3 and len(here[4]["clip_id"]) == 1
        clip_id = here[0]["ids"][0]
        (remote / "media" / clip_id / "audio.wav").write_bytes(b"RIFF")
        with serving(data_routes(Answers(Opened(remote)))) as served:
            found = served.get(f"/media/{clip_id}/audio.wav")
            assert (found.status, found.body, found.headers["content-type"]) == (200, b"RIFF", "audio/wav")
            assert served.get(f"/media/{clip_id}/../../dataset.json").status in (400, 404)
            (remote / "takedown.txt").write_bytes(clip_id.encode())
            assert served.get(f"/media/{clip_id}/audio.wav").status == 404
