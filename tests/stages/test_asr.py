"""Stage asr: real speech with hand-made word times, silence and noise; Whisper's real code with random weights."""

from __future__ import annotations

import gc
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soxr

from jobs.study.measure_speech import listen
from pipeline.clip import Clip
from pipeline.clock import SAMPLE_RATE_HZ, Span
from pipeline.media.encode import write_wav
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.weights import WeightsError, resolve_all
from stages.asr import SPHINX, WHISPER, Asr
from stages.transcribers.transcript import SPEECH_RATE_HZ, Word, settled
from stages.transcribers.voice import level_range_db, voiced_spans

# The corpus's own hand labels of this recording, TIMIT train/dr1/fcjf0/sa1.wrd, in samples at 16 kHz; "dark suit in"
# and the rest are there too, so a test compares what was recognised.
LDC93S1_WORDS = {
    "she": (3050, 5723), "had": (5723, 10337), "your": (9190, 11517), "dark": (11517, 16334), "suit": (16334, 21199),
    "in": (21199, 22560), "greasy": (22560, 28064), "wash": (28064, 33360), "water": (33754, 37556),
    "all": (37556, 40313), "year": (40313, 44586),
}  # fmt: skip


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
    }
    return {kind: sound.astype(np.float32) for kind, sound in sounds.items()}


NOISES = noises()


@pytest.fixture(scope="module")
def stage() -> Asr:
    made = Asr()
    made.setup("cpu")
    return made


@pytest.mark.parametrize("kind", NOISES)
def test_nothing_is_heard_where_nobody_speaks(stage: Asr, kind: str) -> None:
    assert stage.transcribe(NOISES[kind]).words == ()


@pytest.mark.parametrize("kind", ["digital silence", "white noise", "pink noise", "mains hum"])
def test_no_recogniser_is_even_asked_about_steady_sound(kind: str) -> None:
    assert not voiced_spans(NOISES[kind])


@pytest.mark.shared
def test_speech_in_steady_noise_is_still_speech(shared: Path) -> None:
    speech = listen(shared / "media/c_speech/librivox_0870.wav")
    hiss = np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32)
    at_10_db = speech + hiss * speech.std() / 10 ** (10 / 20)
    assert level_range_db(at_10_db) > 6 and voiced_spans(at_10_db)


@pytest.mark.shared
def test_word_times_are_those_of_the_corpus_labels(stage: Asr, shared: Path) -> None:
    said = stage.transcribe(listen(shared / "media/c_speech/LDC93S1.wav"))
    recognised = [word for word in said.words if word.text in LDC93S1_WORDS]
    errors_s = [
        abs(found - sample / SPEECH_RATE_HZ)
        for word in recognised
        for found, sample in zip((word.start_s, word.end_s), LDC93S1_WORDS[word.text], strict=True)
    ]
    assert len(recognised) >= 4
    assert np.median(errors_s) < 0.15 and max(errors_s) < 0.4


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
    moved = {word.text: word.start_s for word in late.words if word.text != "the"}  # said twice
    shifts_s = [moved[word.text] - word.start_s for word in early.words if word.text in moved]
    assert len(shifts_s) >= 3
    assert shifts_s == pytest.approx([2] * len(shifts_s), abs=0.05)


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


def test_times_stay_inside_the_clip_and_never_run_backwards_and_words_without_a_voice_are_dropped() -> None:
    words = [Word("a", -0.2, 0.5, 1), Word("b", 0.4, 0.3, 1), Word("c", 0.35, 9.0, 1), Word("", 1, 2, 1)]
    found = settled(words, 1.0, [(0.0, 1.0)])
    assert [(word.start_s, word.end_s) for word in found] == [(0.0, 0.5), (0.4, 0.4), (0.4, 1.0)]
    words = [Word("thanks", 0.0, 1.0, 0.9), Word("real", 2.0, 2.5, 0.9), Word("watching", 4.0, 5.0, 0.9)]
    assert [word.text for word in settled(words, 6.0, [(1.9, 2.6)])] == ["real"]


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
    times = [time for word in said.words for time in (word.start_s, word.end_s)]
    starts = [word.start_s for word in said.words]
    assert len(said.words) > 3, "a random decoder babbles"
    assert starts == sorted(starts) and len(set(starts)) > 3
    assert min(times) >= 0 and max(times) <= len(samples) / SPEECH_RATE_HZ
    assert all(0 <= word.probability <= 1 for word in said.words)
    gc.collect()  # here, where the warning about the open file is expected


def test_a_missing_checkpoint_is_named_by_its_place_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path))
    stage = Asr(Asr.Settings(backend=WHISPER, model="large-v3-turbo"))
    assert stage.weights() == ("whisper_large_v3_turbo",) and stage.gpus() > 0
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


def test_whisper_and_bert_ask_for_a_part_of_a_gpu_and_pocketsphinx_for_none() -> None:
    codes = [code for code in find_stages() if code.name in ("clip", "asr", "text")]
    shares = {}
    for backend in (SPHINX, WHISPER):
        groups = Pipeline(codes, {"asr": {"backend": backend}}).groups(with_gpus=True)
        shares[backend] = [(group.stages, group.gpus) for group in groups]
    assert shares[SPHINX] == [(("clip", "asr"), 0.0), (("text",), 0.25)]
    assert shares[WHISPER] == [(("clip",), 0.0), (("asr",), 0.5), (("text",), 0.25)]
