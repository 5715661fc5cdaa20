"""Manifests and clips of somebody who means harm: names, paths and addresses that try to get out."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.dataset.read import read_clips
from pipeline.manifest.load import load_manifest
from pipeline.sources.download import Downloads, DownloadSettings
from pipeline.sources.public_network import InternalAddress, is_public, public_only
from schemas.errors import UserError
from tests.labs.mutants import make_conversation
from tests.labs.toy_build import HEADER, ROWS, ToyProject, build_own_stages, write_manifest
from tests.labs.witness import WRITTEN, FolderWitness

BASE = '[dataset]\nname = "x"\nclips = "clips.csv"\n[[sources]]\nid = "a"\npath = "a.bin"\nlicence = "none"\n'

NAMES = [
    *("../../x", "/etc/cron.d/x", "..", "$(touch pwned)", "`id`", "a;id", "%03d", "{0.__class__}", "concat:a|b", "C:x"),
    *("a\\nb", "a\\u001b[2Jb", "a\\u0000b", "\\u202eb", "a\\u200bb", "a b", ""),
    "\\u0430",  # looks like a Latin a
]
NO_FILE_NAMES = [
    "a" * 65,
    "NUL",
    "com1",
]  # too long, or devices of Windows: where no file gets the name, it may have it


@pytest.fixture
def toy(tmp_path: Path) -> ToyProject:
    (tmp_path / "project").mkdir()
    toy = ToyProject(tmp_path / "project")
    toy.write_clips(ROWS[:1])
    return toy


def refuse(toy: ToyProject, text: str, expected: str) -> None:
    path = toy.folder / "m.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=expected):
        load_manifest(path)


@pytest.mark.parametrize("name", NAMES + NO_FILE_NAMES)
def test_a_name_that_is_more_than_a_name_is_refused_wherever_it_stands(toy: ToyProject, name: str) -> None:
    named = BASE.replace('id = "a"', f'id = "{name}"')
    refuse(toy, named, r"line 5: \[\[sources\]\] number 1: id: found .*, allowed: ")
    if name not in NO_FILE_NAMES:
        refuse(toy, BASE.replace("\n[[", f'\ntakedown = ["{name}"]\n[['), "takedown: found")
    plain = name.encode().decode("unicode_escape")
    if plain.strip():  # an empty cell is somebody unknown, and asks for the usual id
        toy.write_clips([ROWS[0].replace("p,q", f'"{plain}",q')])
        with pytest.raises(UserError, match=r"clips\.csv, line \d(, column 'speaker_id'|, expected|: )"):
            load_manifest(toy.manifest)
        (toy.folder / "clips.csv").write_text(f'{HEADER},clip_id\n{ROWS[0]},"{plain}"\n')
        with pytest.raises(UserError, match=r"clips\.csv, line \d(, column 'clip_id'|, expected|: )"):
            load_manifest(toy.manifest)


def test_a_leading_dash_is_part_of_a_name_and_never_an_option(toy: ToyProject, tmp_path: Path) -> None:
    (toy.folder / "clips.csv").write_text(f"{HEADER},clip_id\n{ROWS[0]},--exec\n{ROWS[1]},-rf\n")
    toy.build()
    assert [row["clip_id"] for row in read_clips(toy.folder / "out")] == ["--exec", "-rf"]
    assert (toy.folder / "out/media/--exec/note.txt").is_file()


@pytest.mark.parametrize(
    "path",
    [
        *("file:///etc/passwd", "http://127.0.0.1/x", "concat:a.bin|b.bin", "data:video/mp4;base64,AAAA", "pipe:0"),
        *("subfile,,start,0,end,9,,:a.bin", "fd:0", "crypto:a.bin", "-i", "%d.bin", "a.bin\\u0000", "a.bin\\n"),
        *("$HOME", "x" * 300, "x/" * 3000 + "x", "/dev/zero", "/dev/stdin", "/proc/self/fd", ".", "..", ""),
        *("link_out", "linked/a.bin", "linked_twice", "circle", "dangling", "fifo"),
    ],
)
def test_a_path_that_is_no_file_or_lies_elsewhere_than_it_says_is_refused(toy: ToyProject, path: str) -> None:
    outside = toy.folder.parent / "outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes(b"private")
    (toy.folder / "link_out").symlink_to(outside / "a.bin")
    (toy.folder / "linked").symlink_to(outside)
    (toy.folder / "linked_twice").symlink_to(toy.folder / "link_out")
    (toy.folder / "circle").symlink_to(toy.folder / "circle")
    (toy.folder / "dangling").symlink_to(outside / "none")
    os.mkfifo(toy.folder / "fifo")
    refuse(toy, BASE.replace("a.bin", path), r"line 6: \[\[sources\]\] number 1: path: found .*, allowed: ")


def test_a_link_that_stays_inside_is_a_file_and_a_path_that_says_where_it_leads_is_the_authors_word(
    toy: ToyProject,
) -> None:
    (toy.folder / "inside").symlink_to("a.bin")
    (toy.folder.parent / "beside.bin").write_bytes(b"beside")
    for path in ("inside", "./a.bin", "../beside.bin", str(toy.folder.parent / "beside.bin")):
        (toy.folder / "m.toml").write_text(BASE.replace("a.bin", path))
        assert load_manifest(toy.folder / "m.toml").sources["a"].path.is_file()


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://x/y", "data:video/mp4,x", "concat:http://x/|http://y/", "javascript:alert(1)"),
        *("http://user:secret@x/", "http://x@127.0.0.1/", "http://[::1", "http://[x]/", "http://x:99999999/"),
        *(
            "http://",
            "http://x\\\\@y/",
            "http://x y/",
            "http://x/\\u0000",
            "http://x/\\u001b[2J",
            "http://x/\\r\\nHost: y",
        ),
        *("https://" + "a" * 300 + "/", "--exec=id", "ytsearch:x", "//x/y", "HTTP:/x"),
    ],
)
def test_an_address_that_is_not_plain_http_is_refused(toy: ToyProject, url: str) -> None:
    addressed = BASE.replace('path = "a.bin"', f'url = "{url}"')
    refuse(toy, addressed, r"line 6: .* url: found .*, allowed: an address|control")


PUBLIC = ("8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


@pytest.mark.parametrize(
    "address",
    [
        *(*PUBLIC, "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("localhost", "", "2130706433", "0x7f.1"),
    ],
)
def test_what_counts_as_the_public_internet(address: str) -> None:
    assert is_public(address) == (address in PUBLIC)


def test_in_a_guarded_thread_no_spelling_of_an_internal_address_gets_a_connection() -> None:
    spellings = ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "0", "::1"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for spelling in [*spellings, "::ffff:7f00:1"]:
            with public_only(), pytest.raises((InternalAddress, ConnectionRefusedError)) as caught:
                socket.create_connection((spelling, port), timeout=5).close()
            assert isinstance(caught.value, InternalAddress), spelling
        with public_only(), socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(InternalAddress):
            datagrams.sendto(b"x", ("127.0.0.1", port))
        with public_only(["localhost"]):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        socket.create_connection(("127.0.0.1", port), timeout=5).close()  # outside of the guard nothing has changed


def test_what_may_be_asked_is_not_the_manifests_to_say(toy: ToyProject) -> None:
    refuse(toy, BASE + '[stages.download]\ninternal_hosts = ["127.0.0.1"]\n', "internal_hosts: allowed: only --set")


def test_a_source_may_bear_the_name_of_the_ledger_of_downloads(toy: ToyProject) -> None:
    text = BASE.replace('id = "a"\npath = "a.bin"', 'id = "availability"\nurl = "http://127.0.0.1:9/x"')
    toy.write_clips([ROWS[0].replace("a,", "availability,", 1)])
    (toy.folder / "m.toml").write_text(text)
    downloads = Downloads(load_manifest(toy.folder / "m.toml"), DownloadSettings(attempts=1))
    (entry,) = downloads.run(downloads.wanted(()))
    assert entry.outcome == "unsupported" and "127.0.0.1 is not on the public internet" in entry.message


STRANGE = ("-i.mp4", "a%03d.mp4", '$(touch pwned); it\'s \\"q\\" concat:a|b é漢🎬.mp4')


def test_strange_names_of_files_and_folders_are_names_to_ffmpeg_and_to_the_shell(tmp_path: Path) -> None:
    film = make_conversation(tmp_path)
    folder = tmp_path / "-f %d 'x' $(touch pwned) [0-9]{1,2} é"
    folder.mkdir()
    names = [name.replace("\\", "") for name in STRANGE]
    for name in names:
        (folder / name).write_bytes(film)
    sources = {f"s{number}": name for number, name in enumerate(STRANGE)}
    rows = [f"{source},0,1,left,,p,q,train" for source in sources]
    manifest = write_manifest(folder / "m.toml", sources, rows, 'stages = ["clip", "face"]\n')
    with closing(FolderWitness(Path.cwd(), WRITTEN)) as here:
        _, report = build_own_stages(manifest, folder / "out")
        assert len(report.after.published) == len(names), report.missing_lines()
        assert not here.seen() and not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("link", ["media", "media/a_000000_000001", "columns", "columns/wave", "shards", "ledger"])
def test_a_link_in_the_output_folder_leads_no_file_out_of_it(toy: ToyProject, link: str) -> None:
    elsewhere, place = toy.folder.parent / "elsewhere", toy.folder / "out" / link
    elsewhere.mkdir()
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere)
    with pytest.raises(UserError, match="a link leads out of the data set, to .*elsewhere"):
        toy.build()
    assert not list(elsewhere.iterdir())
