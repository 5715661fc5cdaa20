"""The viewer as a folder: the same pages, with the answers in files, for a web server or to be opened from the disk.

    FOLDER/index.html, *.css, viewer.js     the pages; the modules joined into one script
    FOLDER/files.js                              which answer lies in which file
    FOLDER/data/*.js                             answers, each a script: a page opened from the disk cannot fetch
    FOLDER/media/CLIP_ID/...                     the media that were asked for

Browsers load neither modules nor JSON from ``file://``. Nothing can be sent back: an export takes no votes.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from jobs.viewer.data import RENDERED, Answers
from jobs.viewer.opened import ALL_MEDIA, MEDIA
from jobs.viewer.server import PAGE
from pipeline.dataset.storage import local_file
from schemas.errors import UserError

ENTRY, LIVE, STATIC = "main.js", "api.js", "api_static.js"
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: blob: data:; "
    "media-src 'self' file: blob:; base-uri 'none'; form-action 'none'"
)
IMPORT = re.compile(r'^import\s+(\{[^}]*\}|\*\s+as\s+\w+)\s+from\s+"\./([\w-]+\.js)";$', re.MULTILINE)
EXPORT = re.compile(r"^export\s+((?:async\s+)?function\*?|const|class)\s+(\w+)", re.MULTILINE)
MARK = "vico-viewer"  # in the first line of files.js: the folder is an export, and may be written again


def export(answers: Answers, folder: Path, clips: Collection[str] = (), media: Collection[str] = ALL_MEDIA) -> int:
    """Write the export of some clips, of all where none are named; returns how many.

    `UserError` for a clip that is not there, and for a folder that holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not _is_export(folder):
        raise UserError(f"{folder}: holds other files; name a new folder")
    for name in clips:
        answers.data.manifest(name)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("data", "media"):
        shutil.rmtree(folder / name, ignore_errors=True)
    answers.only = frozenset(clips) or None
    writer = Writer(folder)
    answers.refresh()
    answers.index.wait()
    ids = json.loads(answers.clips())["ids"]
    for name in answers.dataset()["measures"]:
        (values,) = answers.measures([name["name"]], answers.dataset()["clips_version"])
        writer.floats(f"/api/measures/{name['name']}", values)
    writer.json("/api/dataset", answers.dataset())
    writer.json("/api/clips", json.loads(answers.clips()))
    writer.json("/api/overview", answers.overview())
    rejects = answers.rejects()
    writer.json("/api/rejects", rejects)
    writer.json("/api/mesh", answers.mesh())
    for clip_id in dict.fromkeys([*ids, *(one for one in rejects["clip_id"] if one in clips)]):
        _write_clip(writer, answers, clip_id, media)
    for clip_id in rejects["clip_id"]:
        if clip_id in answers.data.parts:
            writer.json(f"/api/reject/{_component(clip_id)}", answers.reject(clip_id))
    writer.close()
    _write_page(folder)
    return len(ids)


def _is_export(folder: Path) -> bool:
    path = folder / "files.js"
    return path.is_file() and path.read_text(encoding="utf-8").startswith(f"// {MARK}\n")


@dataclass
class Writer:
    """Writes answers, and remembers where."""

    folder: Path
    files: dict[str, str] = field(default_factory=dict)

    def json(self, path: str, value: Any) -> None:
        """An answer in JSON."""
        name = f"data/{len(self.files):06d}.js"
        self.files[path] = name
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(f"answer({_script(path)}, {_script(value)});\n", encoding="utf-8")

    def floats(self, path: str, values: np.ndarray) -> None:
        """An answer of float32."""
        self.json(path, {"shape": list(values.shape), "base64": base64.b64encode(values.tobytes()).decode()})

    def close(self) -> None:
        """Write down which answer lies where."""
        (self.folder / "files.js").write_text(f"// {MARK}\nwindow.files = {_script(self.files)};\n", encoding="utf-8")


def _script(value: Any) -> str:
    """A value as JavaScript reads it; JSON but for two letters."""
    return json.dumps(value, allow_nan=False)  # ASCII: what ends a line in scripts alone is escaped


def _write_clip(writer: Writer, answers: Answers, clip_id: str, media: Collection[str]) -> None:
    said = answers.clip(clip_id)
    for column in said["columns"]:
        of = f"?of={_component(column['of'])}" if column["of"] else ""
        path = f"/api/clip/{_component(clip_id)}/column/{_component(column['name'])}{of}"
        writer.floats(path, answers.column(clip_id, column["name"], column["of"]))
    wanted = [(name, "") for name in media] + [(RENDERED, of) for of in said["renders"] if RENDERED in media]
    for number, (name, of) in enumerate(wanted):
        if not of and f"/media/{clip_id}/{name}" not in {*said["media"].values(), *said["sounds"].values()}:
            continue
        target = f"media/{clip_id}/{name if not of else f'{number}-{name}'}"
        (writer.folder / target).parent.mkdir(parents=True, exist_ok=True)
        with local_file(answers.media(clip_id, name, of)) as file:
            shutil.copyfile(file, writer.folder / target)
        writer.files[f"/media/{clip_id}/{name}" + (f"?of={_component(of)}" if of else "")] = target
    for name in MEDIA:
        if name not in media:
            said["media"][name.partition(".")[0]] = None
    said["sounds"] = {role: path for role, path in said["sounds"].items() if path.rpartition("/")[2] in media}
    if RENDERED not in media:
        said["renders"] = {}
    writer.json(f"/api/clip/{_component(clip_id)}", said)


def _component(text: str) -> str:
    """As ``encodeURIComponent`` does."""
    return quote(text, safe="!'()*~-_.")


def _write_page(folder: Path) -> None:
    for path in PAGE.glob("*.css"):
        shutil.copyfile(path, folder / path.name)
    (folder / "viewer.js").write_text(joined(), encoding="utf-8")
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    scripts = '<script src="files.js"></script>\n<script src="viewer.js"></script>'
    replaced = {
        '<meta charset="utf-8">': f'<meta charset="utf-8">\n{policy}',
        'rel="stylesheet" href="page/': 'rel="stylesheet" href="',
        '<script type="module" src="page/main.js"></script>': scripts,
    }
    for old, new in replaced.items():
        assert old in page, old
        page = page.replace(old, new)
    (folder / "index.html").write_text(page, encoding="utf-8")


def joined() -> str:
    """The modules of the pages as one script, each a function, in an order in which each follows what it imports."""
    order: dict[str, str] = {}
    for name in _in_order(ENTRY, ()):
        order.setdefault(name, _as_function(name))
    return '"use strict";\nconst modules = {};\n' + "".join(order.values())


def _source(name: str) -> str:
    return (PAGE / (STATIC if name == LIVE else name)).read_text(encoding="utf-8")


def _in_order(name: str, above: tuple[str, ...]) -> Iterator[str]:
    assert name not in above, f"{name} imports itself by way of {', '.join(above)}"
    for found in IMPORT.finditer(_source(name)):
        yield from _in_order(found[2], (*above, name))
    yield name


def _as_function(name: str) -> str:
    source = _source(name)
    names = ", ".join(found[2] for found in EXPORT.finditer(source))
    body = EXPORT.sub(r"\1 \2", IMPORT.sub(_import, source))
    left = re.search(r"^(import|export)\b", body, re.MULTILINE)
    assert left is None, f"{name}: an import or export of a form that cannot be joined"
    return f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n'


def _import(found: re.Match[str]) -> str:
    what = found[1]
    if what.startswith("*"):
        return f'const {what.split()[-1]} = modules["{found[2]}"];'
    names = re.sub(r"(\w+)\s+as\s+(\w+)", r"\1: \2", what)
    return f'const {names} = modules["{found[2]}"];'
