"""The registry of weights and fetching: from a real web server on loopback, with hashes that are known."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs import weights as job
from pipeline import weights as registry
from pipeline.weights import Weights, WeightsError, fetch, find_weights, resolve_all
from tests.labs.web import Page, Request, cut_off, file, serve, status

BODY = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(url: str = "", sha256: str = SHA256, **more: str) -> Weights:
    urls = {"net.bin": url} if url else {}
    return Weights("net", {"net.bin": sha256}, licence="none", source="a test", urls=urls, **more)


def fetched(page: Page, weights_sha256: str = SHA256) -> Path:
    with serve({"/net.bin": page}) as web:
        (path,) = fetch(entry(web.url("/net.bin"), weights_sha256))
    return path


def test_every_entry_has_a_licence_a_source_and_a_way_to_get_it() -> None:
    for weights in registry.registry().values():
        assert weights.licence and weights.source and weights.files, weights.name
        assert weights.package or weights.steps or set(weights.urls) == set(weights.files), weights.name
        assert weights.package or weights.bytes or weights.steps, weights.name


def test_what_the_packages_carry_is_what_the_registry_says() -> None:
    resolve_all([name for name, weights in registry.registry().items() if weights.package and not weights.is_gone])


def test_what_is_fetched_takes_the_place_of_a_package_that_is_gone_or_holds_another_file(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({"/net.bin": file(BODY)}) as web:
        weights = entry(web.url("/net.bin"), package="somebodys_upload")
        assert weights.is_gone and weights.root() == cache / "net"
        (tmp_path / "somebodys_upload").mkdir()
        (tmp_path / "somebodys_upload" / "net.bin").write_bytes(BODY)
        monkeypatch.syspath_prepend(tmp_path)
        assert not weights.is_gone and fetch(weights) == [tmp_path / "somebodys_upload" / "net.bin"]
        assert not web.asked
        (tmp_path / "somebodys_upload" / "net.bin").write_bytes(b"other numbers")
        with pytest.raises(WeightsError, match="found .*; python -m jobs.weights fetch net"):
            weights.paths()
        assert fetch(weights) == weights.paths() == [cache / "net" / "net.bin"]


def test_a_file_is_fetched_checked_and_left_without_traces(cache: Path) -> None:
    path = fetched(file(BODY))
    assert path.read_bytes() == BODY
    assert path == cache / "net" / "net.bin"
    assert {found.name for found in path.parent.iterdir()} == {"net.bin", "net.bin.lock"}


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped_or_begins_anew_where_a_server_cannot(has_ranges: bool) -> None:
    broken = cut_off(BODY, after=300_000, times=1)

    def page(request: Request) -> None:
        if not has_ranges:
            del request.handler.headers["Range"]
        broken(request)

    with serve({"/net.bin": page}) as web:
        with pytest.raises(WeightsError, match="after 300000 bytes; the same command goes on from there"):
            fetch(entry(web.url("/net.bin")))
        (path,) = fetch(entry(web.url("/net.bin")))
    assert path.read_bytes() == BODY
    assert not has_ranges or [start for _, start, _ in web.asked] == [0, 300_000]


def test_another_file_than_the_registered_one_is_not_kept(cache: Path) -> None:
    with pytest.raises(WeightsError, match=f"sent a file with sha256 .* expected {'0' * 64}"):
        fetched(file(BODY), "0" * 64)
    assert not list((cache / "net").glob("net.bin*bin")) and not (cache / "net" / "net.bin.part").exists()


def test_a_server_that_fails_is_named_and_a_redirect_to_a_file_of_this_machine_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    for failing, said in ((status(503), "HTTP Error 503"), (status(302, Location=f"file://{tmp_path}/secret"), "302")):
        with pytest.raises(WeightsError, match=said):
            fetched(failing)


def test_two_workers_that_want_the_same_file_download_it_once() -> None:
    with serve({"/net.bin": file(BODY)}) as web:
        weights = entry(web.url("/net.bin"))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fetch, [weights] * 4))
        assert web.count("/net.bin") == 1
    assert weights.paths()[0].read_bytes() == BODY


def test_a_copy_of_the_cache_serves_a_machine_without_a_network(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched(file(BODY))
    shutil.copytree(cache, tmp_path / "carried")
    shutil.rmtree(cache)
    monkeypatch.setenv(registry.CACHE_VARIABLE, str(tmp_path / "carried"))
    (path,) = fetch(entry("http://127.0.0.1:9/nobody-listens-here"))
    assert path == tmp_path / "carried" / "net" / "net.bin"


def test_weights_behind_a_form_print_the_steps() -> None:
    with pytest.raises(WeightsError, match="cannot be downloaded: register at example.org"):
        fetch(entry(steps="register at example.org, then copy net.bin there"))


def test_a_file_without_a_published_hash_counts_as_it_is(cache: Path) -> None:
    weights = entry(sha256="", steps="ask for it")
    (cache / "net").mkdir(parents=True)
    (cache / "net" / "net.bin").write_bytes(b"one")
    first = weights.sha256
    (cache / "net" / "net.bin").write_bytes(b"another")
    assert weights.paths() and weights.sha256 != first


def test_a_path_stands_for_weights_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    (tmp_path / "mine" / "model.bin").write_bytes(BODY)
    assert find_weights(f"{tmp_path}/mine/model.bin").paths() == [tmp_path / "mine" / "model.bin"]
    assert len(find_weights(f"{tmp_path}/mine").paths()) == 2
    with pytest.raises(WeightsError, match="known: mtcnn"):
        find_weights("no_such_model")


def test_everything_that_is_missing_is_listed_at_once_with_the_commands() -> None:
    with pytest.raises(WeightsError) as caught:
        resolve_all(["whisper_tiny", "mtcnn", "bert_base_uncased"])
    remedies = [line.rpartition("; ")[2] for line in str(caught.value).splitlines()]
    assert remedies == [f"python -m jobs.weights fetch {name}" for name in ("bert_base_uncased", "whisper_tiny")]


def test_the_job_lists_checks_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["list"]) == 0
    table = capsys.readouterr().out
    assert "whisper_base " in table and "to fetch" in table and "in package" in table
    assert job.main(["check"]) == 0
    assert job.main(["check", "whisper_base"]) == 1
    assert "base.pt: expected sha256" in capsys.readouterr().err
