"""Downloading through real yt-dlp from a web server on loopback that fails in every way a host can."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import ffmpeg
import pytest

from jobs import download as job
from pipeline.manifest.load import load_manifest
from pipeline.sources.availability import OUTCOMES, Availability, Entry
from pipeline.sources.download import Downloads, DownloadSettings
from pipeline.sources.host import classify
from pipeline.sources.rate_limit import RateLimit, host_of
from schemas.errors import UserError
from tests.labs.media import Recipe, make_source, run
from tests.labs.toy_build import HEADER, ToyProject, computed
from tests.labs.web import Page, Request, Web, cut_off, file, serve, slow, status

QUICK = DownloadSettings(
    per_minute=6000, burst=100, backoff_s=0.01, timeout_s=5, max_mib=1, attempts=2, internal_hosts=("127.0.0.1",)
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    recipe = Recipe(".mp4", video={"vcodec": "libx264", "pix_fmt": "yuv420p"}, audio={"acodec": "aac"})
    return make_source(tmp_path_factory.mktemp("video") / "video", recipe).read_bytes()


def endless(request: Request) -> None:
    """A file that says nothing of its size and never ends."""
    request.handler.send_response(200)
    request.handler.send_header("Content-Type", "video/mp4")
    request.handler.end_headers()
    for _ in range(4000):
        request.handler.wfile.write(bytes(64 * 1024))


@pytest.fixture(scope="module")
def pages(video: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    secret = tmp_path_factory.mktemp("secret") / "video.mp4"
    secret.write_bytes(video)
    return {
        "/normal.mp4": file(video),
        "/slow.mp4": slow(video, 1.0),
        "/breaks.mp4": cut_off(video, len(video) // 3, times=2),
        "/broken.mp4": cut_off(video, 1000, times=1000),
        "/garbage.mp4": file(bytes(5000)),
        "/forbidden.mp4": status(403),
        "/gone.mp4": status(410),
        "/busy.mp4": status(429),
        "/ill.mp4": status(503),
        "/file.mp4": status(302, Location=f"file://{secret}"),
        "/huge.mp4": lambda request: request.head(200, 2**31, Content_Type="video/mp4"),
        "/endless.mp4": endless,
        "/page.html": status(200, "<html><title>nothing here</title></html>"),
    }


@pytest.fixture
def web(pages: dict[str, Page]) -> Iterator[Web]:
    with serve(pages) as running:
        yield running


def manifest(folder: Path, urls: list[str], more: str = "") -> Path:
    """A manifest with a source and a clip of a second for every url."""
    names = [url.rpartition("/")[2].partition(".")[0] for url in urls]
    rows = [f"{name},0,1,left,,p{i},q{i},train" for i, name in enumerate(names)]
    (folder / "clips.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    sources = zip(names, urls, strict=True)
    tables = [f'[[sources]]\nid = "{name}"\nurl = "{url}"\nlicence = "none"\n{more}' for name, url in sources]
    path = folder / "m.toml"
    path.write_text('[dataset]\nname = "m"\nclips = "clips.csv"\nmin_yield = 0.4\n' + "\n".join(tables))
    return path


def download(path: Path, settings: DownloadSettings = QUICK, retry: tuple[str, ...] = ()) -> dict[str, Entry]:
    downloads = Downloads(load_manifest(path), settings)
    list(downloads.run(downloads.wanted(retry)))
    return {entry.source_id: entry for entry in downloads.entries()}


def test_a_video_comes_in_whole_with_hash_size_and_format(web: Web, video: bytes, tmp_path: Path) -> None:
    path = manifest(tmp_path, [web.url("/normal.mp4")])
    entry = download(path)["normal"]
    assert entry.ok and entry.bytes == len(video)
    assert entry.sha256 == sha256(video).hexdigest()
    assert "h264 192x108" in entry.format and entry.date
    assert load_manifest(path).sources["normal"].path.read_bytes() == video
    assert not (tmp_path / "downloads" / ".incoming" / "normal").exists()


def test_picture_and_sound_that_a_host_keeps_apart_become_one_file(web: Web, video: bytes, tmp_path: Path) -> None:
    (tmp_path / "dash").mkdir()
    (tmp_path / "video.mp4").write_bytes(video)
    run(ffmpeg.input(str(tmp_path / "video.mp4")).output(str(tmp_path / "dash" / "all.mpd"), format="dash", c="copy"))
    for path in (tmp_path / "dash").iterdir():
        kind = "application/dash+xml" if path.suffix == ".mpd" else "video/mp4"
        web.pages = {**web.pages, f"/{path.name}": file(path.read_bytes(), kind)}
    entry = download(manifest(tmp_path, [web.url("/all.mpd")]))["all"]
    assert entry.ok and "h264" in entry.format and "aac" in entry.format, entry
    assert len(list((tmp_path / "downloads").glob("all.*"))) == 1


def test_a_cookies_file_is_read_and_left_as_it_is(web: Web, video: bytes, tmp_path: Path) -> None:
    seen = []

    def members_only(request: Request) -> None:
        seen.append(request.handler.headers.get("Cookie", ""))
        (file(video) if "member=yes" in seen[-1] else status(403))(request)

    web.pages = {**web.pages, "/members.mp4": members_only}
    cookies = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tmember\tyes\n"
    (tmp_path / "cookies.txt").write_text(cookies)
    path = manifest(tmp_path, [web.url("/members.mp4")])
    assert download(path, replace(QUICK, cookies="cookies.txt"))["members"].ok
    assert (tmp_path / "cookies.txt").read_text() == cookies
    with pytest.raises(UserError, match="cookies: found 'none.txt', allowed: a file"):
        download(path, replace(QUICK, cookies="none.txt"))


@pytest.mark.parametrize(
    ("page", "outcome"),
    [
        ("forbidden.mp4", "private"),
        ("missing.mp4", "removed"),
        ("gone.mp4", "removed"),
        ("busy.mp4", "rate_limited"),
        ("ill.mp4", "network"),
        ("broken.mp4", "network"),
        ("garbage.mp4", "unsupported"),
        ("page.html", "unsupported"),
        ("file.mp4", "unsupported"),
        ("huge.mp4", "over_limit"),
        ("endless.mp4", "over_limit"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # yt-dlp forgets it when it is stopped
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_failure_has_its_class_and_the_hosts_words(web: Web, tmp_path: Path, page: str, outcome: str) -> None:
    (entry,) = download(manifest(tmp_path, [web.url("/" + page)])).values()
    gc.collect()
    assert (entry.outcome, bool(entry.message)) == (outcome, True), entry
    assert not [found for found in (tmp_path / "downloads").glob("*.mp4")], "nothing is kept of what failed"


def test_a_slow_host_is_waited_for_and_a_silent_one_is_not(web: Web, tmp_path: Path) -> None:
    web.pages["/silent.mp4"] = lambda request: time.sleep(3)
    path = manifest(tmp_path, [web.url("/slow.mp4"), web.url("/silent.mp4")])
    entries = download(path, replace(QUICK, timeout_s=0.6, attempts=1))
    assert entries["slow"].ok
    assert entries["silent"].outcome == "network"


def test_a_connection_that_breaks_goes_on_where_it_broke(web: Web, video: bytes, tmp_path: Path) -> None:
    path = manifest(tmp_path, [web.url("/breaks.mp4")])
    entry = download(path, replace(QUICK, attempts=4))["breaks"]
    assert entry.ok, entry
    assert load_manifest(path).sources["breaks"].path.read_bytes() == video
    assert any(start > 0 for asked, start, _ in web.asked if asked == "/breaks.mp4")


def test_attempts_are_bounded_and_only_made_where_trouble_may_pass(web: Web, tmp_path: Path) -> None:
    download(manifest(tmp_path, [web.url("/busy.mp4"), web.url("/gone.mp4")]))
    assert web.count("/busy.mp4") == QUICK.attempts
    assert web.count("/gone.mp4") == 1


def test_who_was_asked_is_asked_again_only_on_request(web: Web, video: bytes, tmp_path: Path) -> None:
    path = manifest(tmp_path, [web.url("/busy.mp4"), web.url("/gone.mp4"), web.url("/normal.mp4")])
    download(path)
    before = len(web.asked)
    download(path)
    assert len(web.asked) == before
    web.pages = {**web.pages, "/busy.mp4": file(video)}
    entries = download(path, retry=("rate_limited", "network"))
    assert entries["busy"].ok and not entries["gone"].ok
    assert {asked for asked, _, _ in web.asked[before:]} == {"/busy.mp4"}


@pytest.mark.parametrize(
    ("more", "limits", "outcome", "said"),
    [
        (f'sha256 = "{"0" * 64}"\n', QUICK, "changed", "the manifest names 0000"),
        ("", replace(QUICK, max_s=1.0), "over_limit", "at most"),
    ],
)
def test_another_file_or_a_longer_one_is_not_used(web: Web, tmp_path: Path, more, limits, outcome, said) -> None:
    path = manifest(tmp_path, [web.url("/normal.mp4")], more=more)
    entry = download(path, limits)["normal"]
    assert entry.outcome == outcome and said in entry.message
    assert not load_manifest(path).sources["normal"].path.is_file()


def test_a_source_with_another_url_is_not_taken_for_the_old_one(web: Web, tmp_path: Path) -> None:
    path = manifest(tmp_path, [web.url("/normal.mp4")])
    download(path)
    path.write_text(path.read_text().replace("/normal.mp4", "/slow.mp4"))
    assert not load_manifest(path).sources["normal"].path.is_file()
    assert download(path)["normal"].url.endswith("/slow.mp4")


def test_five_urls_of_which_three_fail_yield_two_sources_three_classes_and_an_exit_code(
    web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = ("normal.mp4", "slow.mp4", "forbidden.mp4", "missing.mp4", "busy.mp4")
    path = manifest(tmp_path, [web.url("/" + page) for page in pages])
    settings = ('internal_hosts=["127.0.0.1"]', "per_minute=6000", "backoff_s=0.01", "burst=9")
    options = [word for setting in settings for word in ("--set", f"download.{setting}")]
    assert job.main([str(path), *options]) == 0  # min_yield 0.4
    table = capsys.readouterr().out
    assert "2 of 5 sources with a url are here" in table
    entries = Availability(path).entries()
    outcomes = [entries[page.partition(".")[0]].outcome for page in pages]
    assert outcomes == ["ok", "ok", "private", "removed", "rate_limited"]
    path.write_text(path.read_text().replace("min_yield = 0.4", "min_yield = 0.5"))
    assert job.main([str(path)]) == 1
    assert job.main([str(path), "--retry", "weather"]) == 2


def test_a_build_goes_on_with_what_is_there_and_its_card_says_what_is_not(web: Web, tmp_path: Path) -> None:
    class Linked(ToyProject):
        manifest = tmp_path / "m.toml"

    toy = Linked(tmp_path)
    manifest(tmp_path, [web.url("/normal.mp4"), web.url("/forbidden.mp4"), web.url("/slow.mp4")])
    assert not toy.build().after.published
    download(toy.manifest)
    report = toy.build()
    assert sorted(report.after.published) == ["normal_000000_000001", "slow_000000_000001"]
    assert computed(report) == {"wave": 2, "peak": 2}
    assert report.missing_lines()[0].startswith("  forbidden_000000_000001: rejected by download: private")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2 of 3 linked sources (67%) could be had." in card
    assert f"| forbidden | {web.url('/forbidden.mp4')} | private |" in card
    assert computed(toy.build()) == {}


def test_a_host_is_asked_no_faster_than_the_limit_by_all_together(tmp_path: Path) -> None:
    ours, theirs = (RateLimit(tmp_path, per_minute=600, burst=2) for _ in range(2))
    started = time.monotonic()
    waited = sum(limit.wait("https://a.example/1") for limit in (ours, theirs, ours, theirs))
    assert 0.15 < waited < 1.0 and time.monotonic() - started >= waited
    assert ours.wait("https://b.example/1") == 0


def test_one_host_has_one_name() -> None:
    urls = ("https://www.youtube.com/watch?v=x", "https://youtu.be/x", "https://m.youtube.com/x")
    assert {host_of(url) for url in urls} == {"youtube.com"}
    assert host_of("https://evil.example:80/../../x") == "evil.example"


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("Sign in to confirm you’re not a bot. Use --cookies", "bot_check"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "age_gated"),
        ("Private video. Sign in if you've been granted access to this video", "private"),
        ("Join this channel to get access to members-only content like this video", "private"),
        ("Video unavailable. This video has been removed by the uploader", "removed"),
        ("Video unavailable. This video is no longer available because the account has been terminated.", "removed"),
        ("The uploader has not made this video available in your country", "geo_blocked"),
        ("Video unavailable. This content isn't available, try again later.", "rate_limited"),
        ("Unable to download API page: HTTP Error 429: Too Many Requests", "rate_limited"),
        ("unable to download video data: HTTP Error 403: Forbidden", "bot_check"),
        ("Unable to download webpage: HTTP Error 403: Forbidden", "private"),
        ("Unable to download webpage: The read operation timed out", "network"),
        ("[Errno -3] Temporary failure in name resolution", "network"),
        ("Unsupported URL: https://example.org/", "unsupported"),
    ],
)
def test_hosts_words_have_classes(words: str, outcome: str) -> None:
    assert classify(words) == outcome and outcome in OUTCOMES


def test_a_youtube_id_may_begin_with_a_dash(tmp_path: Path) -> None:
    path = manifest(tmp_path, ["https://x/a"])
    path.write_text(path.read_text().replace('url = "https://x/a"', 'youtube = "-abcDEF_123"'))
    assert load_manifest(path).sources["a"].url == "https://www.youtube.com/watch?v=-abcDEF_123"
    path.write_text(path.read_text().replace("-abcDEF_123", "--exec=id"))
    with pytest.raises(UserError, match="the 11 characters of a YouTube id"):
        load_manifest(path)
