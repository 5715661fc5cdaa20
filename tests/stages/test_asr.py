"""Stage asr: real speech with hand-made word times, sound without a voice, and OpenAI's own code to compare with."""

from __future__ import annotations

import gc
import zlib
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soxr

from jobs.study.measure_speech import listen, word_errors
from pipeline.clip import Clip
from pipeline.clock import SAMPLE_RATE_HZ, Span
from pipeline.media.encode import write_wav
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.weights import WeightsError, resolve_all
from stages.asr import CTRANSLATE2, WHISPER, Asr
from stages.transcribers.ctranslate2_whisper import WINDOW_S, CTranslate2Whisper, log_mel, windows
from stages.transcribers.transcript import SPEECH_RATE_HZ, Dropped, Word, settled
from stages.transcribers.voice import CHUNK_S, EARLIER_S, voiced_spans

# The corpus's own hand labels of this recording, TIMIT train/dr1/fcjf0/sa1.wrd, in samples at 16 kHz; "dark suit in"
# and the rest are there too, so a test compares what was recognised.
LDC93S1_WORDS = {
    "she": (3050, 5723), "had": (5723, 10337), "your": (9190, 11517), "dark": (11517, 16334), "suit": (16334, 21199),
    "in": (21199, 22560), "greasy": (22560, 28064), "wash": (28064, 33360), "water": (33754, 37556),
    "all": (37556, 40313), "year": (40313, 44586),
}  # fmt: skip
SIGNS = ".,!?"


def noises() -> dict[str, np.ndarray]:
    """Sounds without a voice, float32 (sample,) at 16 kHz."""
    rng = np.random.default_rng(0)
    count = 6 * SPEECH_RATE_HZ
    time_s = np.arange(count) / SPEECH_RATE_HZ
    spectrum = np.fft.rfft(rng.standard_normal(count))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    sounds = {
        "digital silence": np.zeros(count),
        "quiet room": 1e-3 * rng.standard_normal(count),
        "white noise": 0.1 * rng.standard_normal(count),
        "pink noise": 0.05 * pink / pink.std(),
        "mains hum": 0.1 * np.sin(2 * np.pi * 100 * time_s) + 0.05 * np.sin(2 * np.pi * 200 * time_s),
        "clicks": 0.6 * (np.arange(count) % SPEECH_RATE_HZ == 0),
        "breathing": 0.1 * rng.standard_normal(count) * (1 + np.sin(2 * np.pi * 0.5 * time_s)) / 2,
        "a melody": sum(tone(220 * 2 ** (step / 12), 0.3 * k) for k, step in enumerate([0, 4, 7, 12, 11, 7, 5, 9] * 2)),
        "chords and a drum": sum(tone(hz, 0.75 * k, 1.0) for k in range(8) for hz in (CHORDS[k % 4] * [1, 1.25, 1.5]))
        + 0.3 * rng.standard_normal(count) * np.exp(-20 * (time_s % 0.5)),
    }
    return {kind: sound.astype(np.float32) for kind, sound in sounds.items()}


CHORDS = np.array([262.0, 220.0, 175.0, 196.0])[:, None]  # Hz of their roots


def tone(hz: float, start_s: float, length_s: float = 0.5) -> np.ndarray:
    """Six seconds with one note in it: a plucked string."""
    time_s = np.arange(6 * SPEECH_RATE_HZ) / SPEECH_RATE_HZ - start_s
    waves = sum(np.sin(2 * np.pi * hz * n * time_s) / n for n in range(1, 6))
    return 0.1 * waves * np.exp(-4 * time_s.clip(0)) * ((time_s >= 0) & (time_s < length_s))


NOISES = noises()


@pytest.fixture(scope="module")
def stage() -> Asr:
    made = Asr()
    try:
        resolve_all(made.weights())
    except WeightsError as error:
        pytest.skip(f"the package with the weights is gone: {error}")
    made.setup("cpu")
    return made


@pytest.mark.parametrize("kind", NOISES)
def test_nothing_is_heard_where_nobody_speaks(stage: Asr, kind: str) -> None:
    said = stage.transcribe(NOISES[kind])
    assert said.words == () and said.language is None


@pytest.mark.parametrize(
    "kind", ["digital silence", "quiet room", "white noise", "pink noise", "mains hum", "breathing"]
)
def test_no_recogniser_is_even_asked_about_noise(stage: Asr, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(stage, "_hear")
    stage.transcribe(NOISES[kind])


@pytest.mark.parametrize("kind", NOISES)
def test_what_a_recogniser_hears_in_noise_is_dropped_as_improbable(stage: Asr, kind: str) -> None:
    everywhere = [(0.0, 6.0)]  # as if a voice had been found
    heard, _ = stage._hear(NOISES[kind], everywhere)
    found = settled(heard, 6.0, everywhere, stage.settings.likely)
    assert all(isinstance(word, Dropped) for word in found)


@pytest.mark.shared
def test_words_in_steady_noise_are_still_heard(stage: Asr, shared: Path) -> None:
    speech = listen(shared / "media/c_speech/librivox_0870.wav")
    hiss = np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32)
    at_10_db = speech + hiss * speech.std() / 10 ** (10 / 20)
    clear, noisy = (stage.transcribe(sound).text.lower().split() for sound in (speech, at_10_db))
    assert word_errors(clear, noisy) <= len(clear) / 10


@pytest.mark.shared
@pytest.mark.parametrize("film", ["lp_d3_woman_silent", "lp_d19_man_silent"])
def test_no_words_are_made_up_for_people_who_are_silent(stage: Asr, shared: Path, film: str) -> None:
    said = stage.transcribe(listen(shared / f"media/b_heads/{film}.mp4"))
    assert not said.words and not said.dropped and said.language is None


@pytest.mark.shared
@pytest.mark.parametrize("film", ["msdwild_AC_monologue", "msdwild_BC_dialogue"])
def test_no_loops_are_made_of_voices_in_a_noisy_car(stage: Asr, shared: Path, film: str) -> None:
    said = stage.transcribe(listen(shared / f"media/a_dyadic/{film}.mp4"))
    text = said.text.encode()
    assert len(text) <= 2 * len(zlib.compress(text))
    assert {word.reason for word in said.dropped} <= {"improbable", "loop"}


@pytest.mark.shared
def test_word_times_are_those_of_the_corpus_labels(stage: Asr, shared: Path) -> None:
    said = stage.transcribe(listen(shared / "media/c_speech/LDC93S1.wav"))
    recognised = [(word, text) for word in said.words if (text := word.text.lower().strip(SIGNS)) in LDC93S1_WORDS]
    errors_s = [
        abs(found - sample / SPEECH_RATE_HZ)
        for word, text in recognised
        for found, sample in zip((word.start_s, word.end_s), LDC93S1_WORDS[text], strict=True)
    ]
    assert len(recognised) >= 9
    assert np.median(errors_s) < 0.08 and max(errors_s) < 0.25


@pytest.mark.shared
@pytest.mark.parametrize("name", ["librivox_0870", "librivox_0880", "librivox_0890"])
def test_the_first_word_starts_and_the_last_ends_where_the_labels_say(stage: Asr, shared: Path, name: str) -> None:
    label = (shared / "media/c_speech" / f"{name}.lab").read_text()
    speech_s, silence_s = (float(line.split()[0]) for line in label.splitlines())
    words = stage.transcribe(listen(shared / "media/c_speech" / f"{name}.wav")).words
    assert words[0].start_s == pytest.approx(speech_s, abs=0.15)
    assert words[-1].end_s == pytest.approx(silence_s, abs=0.15)


@pytest.mark.shared
def test_a_pause_before_the_speech_moves_every_word_by_the_pause(stage: Asr, shared: Path) -> None:
    speech = listen(shared / "media/c_speech/sb_spk1_snt1.wav")
    pause = 1e-4 * np.random.default_rng(2).standard_normal(2 * SPEECH_RATE_HZ).astype(np.float32)
    early, late = stage.transcribe(speech), stage.transcribe(np.concatenate([pause, speech]))
    assert late.text == early.text
    shifts_s = [after.start_s - before.start_s for before, after in zip(early.words[1:], late.words[1:], strict=True)]
    assert shifts_s == pytest.approx([2] * len(shifts_s), abs=0.08)


@pytest.mark.shared
def test_a_transcript_does_not_depend_on_the_clip_before(stage: Asr, shared: Path) -> None:
    first = listen(shared / "media/c_speech/sb_spk2_snt2.wav")
    before = stage.transcribe(first)
    stage.transcribe(listen(shared / "media/c_speech/sb_spk1_snt4.wav"))
    assert stage.transcribe(first) == before


@pytest.mark.shared
def test_the_columns_of_a_clip_have_their_declared_types(stage: Asr, shared: Path, tmp_path: Path) -> None:
    samples = soxr.resample(listen(shared / "media/c_speech/sb_spk1_snt1.wav"), SPEECH_RATE_HZ, SAMPLE_RATE_HZ)
    write_wav(tmp_path / "audio.wav", samples)
    clip = Clip({"clip_id": "c", "audio": "audio.wav"}, Span(Fraction(0), Fraction(2)), tmp_path, tmp_path, tmp_path)
    values = stage.process(clip)
    for column in stage.writes():
        assert column.from_arrow(column.to_arrow([column.check(values[column.name], 60)])[0]) is not None
    assert values["transcript"] == " ".join(word["text"] for word in values["words"])
    assert values["language"] == "en"


def test_times_stay_inside_the_clip_never_run_backwards_and_reach_into_no_pause() -> None:
    words = [Word("a", -0.2, 0.5, 1), Word("b", 0.4, 0.3, 1), Word("c", 0.35, 9.0, 1), Word(".", 1, 2, 1)]
    found = settled([words], 1.0, [(0.0, 1.0)], 0.5)
    assert [(word.start_s, word.end_s) for word in found] == [(0.0, 0.5), (0.4, 0.4), (0.4, 1.0)]
    (ask,) = settled([[Word("ask", 2.3, 3.9, 1)]], 5.0, [(0.0, 2.4), (3.3, 4.6)], 0.5)  # heard from the pause on
    assert (ask.start_s, ask.end_s) == (3.3, 3.9)


def test_words_that_were_not_said_are_dropped_with_the_reason() -> None:
    """A window falls as a whole; a word without a voice alone."""
    words = [Word("thanks", 0.0, 1.0, 0.9), Word("real", 1.9, 2.0, 0.9)]
    unsure = [Word("beach", 2.0, 2.1, 0.2), Word("the", 2.1, 2.2, 0.9)]
    looped = [Word(text, 2.2, 2.3, 0.9) for text in 12 * ["going", "to", "the", "beach", "and"]]
    chorus = [Word(text, 2.3, 2.4, 0.9) for text in 3 * ["no"]]
    late = [Word("watching", 4.0, 5.0, 0.9)]
    found = settled([words, unsure, looped, chorus, late], 6.0, [(1.9, 2.6)], 0.5)
    dropped = [word for word in found if isinstance(word, Dropped)]
    assert [word.text for word in found if word not in dropped] == ["real", "no", "no", "no"]
    assert [word.reason for word in dropped] == ["unvoiced", "improbable", "improbable", *60 * ["loop"], "unvoiced"]


def test_a_voice_lasts_until_it_is_improbable_and_begins_a_little_earlier() -> None:
    chunks = np.zeros(200)
    chunks[50:60], chunks[60:70], chunks[120] = 0.6, 0.4, 0.9  # a voice, its soft end, a short word
    chunks[180] = 0.4  # no beginning
    chunks[123:125] = 0.9  # and its second syllable
    found = np.array(voiced_spans(chunks, 6.4))
    np.testing.assert_allclose(
        found, [(50 * CHUNK_S - EARLIER_S, 70 * CHUNK_S), (120 * CHUNK_S - EARLIER_S, 125 * CHUNK_S)]
    )
    assert voiced_spans(np.ones(200), 6.3) == [(0.0, 6.3)]


def test_windows_hold_all_speech_are_no_longer_than_half_a_minute_and_are_cut_in_pauses() -> None:
    assert windows([(1, 12), (14, 29), (30, 50)], 60.0) == [(0.7, 29.3), (29.7, 50.3)]
    assert windows([], 60.0) == []
    on_and_on = windows([(0, 4), (5, 80)], 80.0)
    assert on_and_on[0] == (0, 4.3) and on_and_on[-1][1] == 80
    assert max(last - first for first, last in on_and_on) == pytest.approx(WINDOW_S)
    assert all(now[0] <= before[1] for before, now in zip(on_and_on[1:], on_and_on[2:], strict=False))


@pytest.mark.shared
def test_the_spectrogram_is_openais_own(shared: Path) -> None:
    import torch
    import whisper

    sound = listen(shared / "media/c_speech/jfk.flac")
    theirs = whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(sound)), 80).numpy()
    filters = whisper.audio.mel_filters("cpu", 80).numpy()
    np.testing.assert_allclose(log_mel(sound, filters), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "unspaced"), [(' It\'s 50, "sir", in the naïve café.', False), ("今日は、とても良い天気です。", True)]
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # whisper forgets to close its vocabulary
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tokens_become_the_words_that_openais_own_tokenizer_makes_of_them(
    stage: Asr, text: str, unspaced: bool
) -> None:
    """But for signs, which it keeps apart at first."""
    from whisper.tokenizer import get_tokenizer

    recogniser = stage._hear.func.__self__
    assert isinstance(recogniser, CTranslate2Whisper)
    ids = recogniser._tokens.encode(text, add_special_tokens=False).ids
    theirs = get_tokenizer(False)
    words, tokens = (theirs.split_tokens_on_unicode if unspaced else theirs.split_tokens_on_spaces)(ids)
    ours = recogniser._in_words(ids, unspaced)
    assert sum(count for _, count in ours) == sum(map(len, tokens)) == len(ids)
    signs = '、。,." '
    assert [word.strip(signs) for word, _ in ours] == [bare for word in words if (bare := word.strip(signs))]
    gc.collect()  # here, where the warning about the open file is expected


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published format: ``dims`` and ``model_state_dict``."""
    import torch
    import whisper

    dims = whisper.ModelDimensions(
        n_mels=80, n_audio_ctx=1500, n_audio_state=32, n_audio_head=2, n_audio_layer=2,
        n_vocab=51865, n_text_ctx=96, n_text_state=32, n_text_head=2, n_text_layer=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = whisper.Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding, std=3.0)  # each position prefers another token: babble
    torch.nn.init.normal_(model.decoder.token_embedding.weight, std=2.0)
    path = tmp_path_factory.mktemp("whisper") / "random.pt"
    torch.save({"dims": asdict(dims), "model_state_dict": model.state_dict()}, path)
    return path


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # whisper forgets to close its vocabulary
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whisper_loads_a_checkpoint_by_path_and_aligns_words_inside_a_clip(random_whisper: Path, shared: Path) -> None:
    stage = Asr(Asr.Settings(backend=WHISPER, model=str(random_whisper), language="en"))
    resolve_all(stage.weights())
    stage.setup("cpu")
    samples = listen(shared / "media/c_speech/LDC93S1.wav")
    said = stage.transcribe(samples)
    heard = said.words + said.dropped  # a random decoder babbles
    times = [time for word in heard for time in (word.start_s, word.end_s)]
    starts = [word.start_s for word in heard]
    assert len(heard) > 3
    assert starts == sorted(starts) and len(set(starts)) > 3
    assert min(times) >= 0 and max(times) <= len(samples) / SPEECH_RATE_HZ
    assert all(0 <= word.probability <= 1 for word in heard)
    gc.collect()  # here, where the warning about the open file is expected


def test_a_missing_checkpoint_is_named_by_its_place_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path))
    stage = Asr(Asr.Settings(backend=WHISPER, model="large-v3-turbo"))
    assert stage.weights() == ("whisper_large_v3_turbo", "silero_vad") and stage.gpus() > 0
    with pytest.raises(WeightsError, match="large-v3-turbo.pt: .* python -m jobs.weights fetch whisper_large_v3_turbo"):
        resolve_all(stage.weights())


def test_our_cache_keeps_whispers_own_file_names_and_hashes() -> None:
    import whisper

    from pipeline.weights import registry

    for name, weights in registry().items():
        if name.startswith("whisper_"):
            (file,), (url,) = weights.files, weights.urls.values()
            model = file.removesuffix(".pt")
            assert url == whisper._MODELS[model]
            assert url.split("/")[-2] == weights.files[file]


def test_whisper_and_bert_ask_for_a_part_of_a_gpu() -> None:
    codes = [code for code in find_stages() if code.name in ("clip", "asr", "text")]
    for backend in (CTRANSLATE2, WHISPER):
        groups = Pipeline(codes, {"asr": {"backend": backend}}).groups(with_gpus=True)
        assert [(group.stages, group.gpus) for group in groups] == [(("clip",), 0), (("asr",), 0.5), (("text",), 0.25)]


@pytest.mark.shared
def test_clips_heard_together_give_the_words_of_each_alone(stage: Asr, shared: Path, tmp_path: Path) -> None:
    names = ["LDC93S1", "sb_spk1_snt1", "librivox_0870"]
    sounds = [listen(shared / "media/c_speech" / f"{name}.wav") for name in names] + [NOISES["quiet room"]]
    clips = []
    for number, sound in enumerate(sounds):
        write_wav(tmp_path / f"{number}.wav", soxr.resample(sound, SPEECH_RATE_HZ, SAMPLE_RATE_HZ))
        values = {"clip_id": str(number), "audio": f"{number}.wav"}
        clips.append(Clip(values, Span(Fraction(0), Fraction(9)), tmp_path, tmp_path, tmp_path))
    together = Asr()
    together.setup("cpu")
    together._together = True
    alone = stage.process_part(clips)  # what a worker without a GPU does
    for one, other in zip(alone, together.process_part(clips), strict=True):
        assert isinstance(one, dict) and isinstance(other, dict)
        assert other["transcript"] == one["transcript"] and other["language"] == one["language"]
        for key, within in (("start_s", 0.021), ("end_s", 0.021), ("probability", 0.02)):  # a step of the encoder
            values = [[word[key] for word in said["words"]] for said in (other, one)]
            np.testing.assert_allclose(*values, rtol=0, atol=within)
    assert [bool(one["words"]) for one in alone] == [True, True, True, False]


@pytest.mark.gpu
@pytest.mark.shared
def test_a_gpu_hears_the_same_words(stage: Asr, shared: Path) -> None:
    import ctranslate2

    if not ctranslate2.get_cuda_device_count():
        pytest.skip("no CUDA device here")
    on_gpu = Asr()
    on_gpu.setup("cuda")
    speech = listen(shared / "media/c_speech/jfk.flac")
    here, there = stage.transcribe(speech), on_gpu.transcribe(speech)
    assert there.text == here.text
    starts_s = [[word.start_s for word in said.words] for said in (here, there)]
    np.testing.assert_allclose(starts_s[1], starts_s[0], rtol=0, atol=0.06)
