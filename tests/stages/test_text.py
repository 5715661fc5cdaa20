"""Stage text: real BERT weights out of a package against transformers itself, and times that are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.weights import WeightsError, find_weights
from stages.text import WINDOW_TOKENS, Text, frame_tokens, shared_time
from stages.transcribers.bert import BertEncoder
from stages.transcribers.hidden import hidden

SENTENCE = "she had your dark suit in unbelievably greasy water"


class Said(dict):
    """A clip as the stage sees it: words at known times, in 3 s."""

    num_frames = 90

    def __init__(self, text: str, word_s: float = 0.25, every_s: float = 0.3) -> None:
        starts = [(word, every_s * i) for i, word in enumerate(text.split())]
        words = [{"text": word, "start_s": start_s, "end_s": start_s + word_s} for word, start_s in starts]
        super().__init__(transcript=text, words=words)


@pytest.fixture(scope="module")
def stage() -> Text:
    made = Text()
    made.setup("cpu")
    return made


def checked(stage: Text, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {column.name: column.check(values[column.name], Said.num_frames) for column in stage.writes()}


def test_vectors_are_those_of_transformers_own_way_from_text_to_vectors(stage: Text) -> None:
    import torch

    with hidden("torchvision"):  # which transformers would load, of another build than torch's, perhaps
        from transformers import AutoModel, AutoTokenizer, BertModel  # noqa: F401

    folder = find_weights("all_minilm_l6_v2").paths()[0].parent
    ours = checked(stage, stage.process(Said(SENTENCE)))
    given = AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt")
    with torch.inference_mode():
        theirs = AutoModel.from_pretrained(folder).eval()(**given).last_hidden_state[0, 1:-1].numpy()
    assert ours["token_embedding"].shape == (len(ours["token_text"]), 384)
    np.testing.assert_allclose(ours["token_embedding"], theirs, atol=1e-5)


@pytest.mark.parametrize(
    "word", ["naïve", "ÜMLÄUT!", "50%", "café-bar", "今日は", "[MASK]", "z" * 150, "don't", "\u00ad", ""]
)
def test_a_words_tokens_are_those_of_transformers(stage: Text, word: str) -> None:
    from transformers import BertTokenizerFast

    vocabulary = find_weights("all_minilm_l6_v2").paths()[1]
    expected = BertTokenizerFast(vocab=str(vocabulary), do_lower_case=True).tokenize(word)
    assert stage._tokenizer.encode(word, add_special_tokens=False).tokens == expected


def test_the_same_word_means_something_else_in_another_sentence(stage: Text) -> None:
    texts = "we sat in the grass on the river bank", "he took the cash to the bank", "she owes it to the bank"
    banks = (stage.process(Said(text))["token_embedding"][-1] for text in texts)
    river, money, loan = (bank / np.linalg.norm(bank) for bank in banks)
    assert money @ loan > money @ river + 0.1


def test_texts_of_many_clips_pass_together_as_each_alone(stage: Text, device: str) -> None:
    together = Text()
    together.setup(device)
    together._together = True
    clips = [Said(SENTENCE), Said(""), Said("no"), Said(" ".join([SENTENCE] * 60), 0.01, 0.02), Said("oh " + SENTENCE)]
    for clip, found in zip(clips, together.process_part(clips), strict=True):
        alone = stage.process(clip)
        assert isinstance(found, dict) and found["token_text"] == alone["token_text"]
        np.testing.assert_array_equal(found["frame_token"], alone["frame_token"])
        np.testing.assert_allclose(found["token_embedding"], alone["token_embedding"], atol=1e-4)


def test_nothing_said_is_no_token_and_a_pause_in_every_frame(stage: Text) -> None:
    found = checked(stage, stage.process(Said("")))
    assert found["token_embedding"].shape == (0, 384)
    assert (found["frame_token"] == -1).all()


def test_every_token_lies_inside_its_word(stage: Text) -> None:
    clip = Said(SENTENCE)
    found = stage.process(clip)
    whole = "".join(piece.removeprefix("##") for piece in found["token_text"])
    assert whole == SENTENCE.replace(" ", "")
    assert (np.diff(found["token_start_s"]) >= 0).all()
    assert (found["token_end_s"] > found["token_start_s"]).all()
    assert found["token_end_s"][-1] == pytest.approx(clip["words"][-1]["end_s"])


def test_a_frame_points_at_the_word_spoken_at_its_instant() -> None:
    spans = np.array([[0.1, 0.2], [0.2, 0.3], [0.5, 0.6]], np.float32)
    expected = [-1] * 3 + [0] * 3 + [1] * 3 + [-1] * 6 + [2] * 3 + [-1] * 2  # at k/30 s
    assert frame_tokens(spans, 20).tolist() == expected


def test_the_tokens_of_a_word_share_its_time_by_their_letters() -> None:
    times = shared_time({"start_s": 1.0, "end_s": 2.0}, ["un", "##believ", "##ab"])
    np.testing.assert_allclose(times, [(1.0, 1.2), (1.2, 1.8), (1.8, 2.0)])


def test_a_text_longer_than_berts_positions_is_read_in_windows_that_agree(stage: Text) -> None:
    text = stage._tokenizer.encode(" ".join([SENTENCE] * 80), add_special_tokens=False)
    ids, found = text.ids, stage._embed(text.tokens)
    half, quarter = WINDOW_TOKENS // 2, WINDOW_TOKENS // 4
    seam, end = half + quarter, 2 * half + quarter
    windows = stage._encode([ids[at : at + WINDOW_TOKENS] for at in (0, half, 2 * half)])
    assert len(found) == len(ids) > 2 * WINDOW_TOKENS - half and np.isfinite(found).all()
    np.testing.assert_allclose(found[:seam], windows[0][:seam], atol=1e-5)
    np.testing.assert_allclose(found[seam:end], windows[1][quarter:seam], atol=1e-5)
    np.testing.assert_allclose(found[end : 3 * half], windows[2][quarter:half], atol=1e-5)


def random_bert(folder: Path) -> Any:
    """A random BERT with pre-training heads, saved into a folder as bert-base-uncased is published."""
    with hidden("torchvision"):
        from transformers import BertConfig, BertForPreTraining

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    bert = BertForPreTraining(config).eval()
    bert.save_pretrained(folder)
    vocabulary = find_weights("all_minilm_l6_v2").paths()[1]
    (folder / "vocab.txt").write_bytes(vocabulary.read_bytes())
    return bert


def test_a_bert_in_the_published_layout_loads_by_path_and_sets_the_columns_width(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import BertTokenizerFast

    bert, file = random_bert(tmp_path), tmp_path / "model.safetensors"
    old_names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = load_file(file)
    for new, old in old_names.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, file)
    stage = Text(Text.Settings(model=str(tmp_path)))
    stage.setup("cpu")
    found = checked(stage, stage.process(Said(SENTENCE)))
    assert found["token_embedding"].shape[1] == 32
    ids = BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), do_lower_case=True)(SENTENCE, return_tensors="pt")
    with torch.inference_mode():
        reference = bert.bert(**ids).last_hidden_state[0, 1:-1]
    np.testing.assert_allclose(found["token_embedding"], reference.numpy(), atol=1e-5)


def test_a_shorter_text_beside_a_longer_one_is_read_as_alone(tmp_path: Path) -> None:
    random_bert(tmp_path)
    encoder = BertEncoder(tmp_path)
    long, short = [101, *range(2000, 2030), 102], [101, 2500, 2501, 102]
    together = encoder.hidden([long, short])
    for ids, found in zip((long, short), together, strict=True):
        np.testing.assert_allclose(found[: len(ids)], encoder.hidden([ids])[0], atol=1e-5)


def test_a_file_that_lacks_weights_is_refused_and_not_filled_with_random_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    random_bert(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "layer.1." not in k}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"no BERT encoder: encoder\.layer\.1"):
        BertEncoder(tmp_path)


@pytest.mark.parametrize("other", [{"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}])
def test_an_encoder_of_another_kind_is_refused(tmp_path: Path, other: dict[str, str]) -> None:
    random_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **other}))
    with pytest.raises(WeightsError, match="expected a BERT with gelu and absolute positions"):
        BertEncoder(tmp_path)


def test_another_model_makes_another_column_and_another_fingerprint(tmp_path: Path) -> None:
    random_bert(tmp_path)
    codes = [code for code in find_stages() if code.name in ("clip", "asr", "text")]
    models = "all-MiniLM-L6-v2", str(tmp_path)
    identities = [Pipeline(codes, {"text": {"model": model}}).identity["text"] for model in models]
    assert "[384]" in json.dumps(identities[0]) and "[32]" in json.dumps(identities[1])
    assert len(identities[1]["weights"]) == 1 and identities[0]["weights"] != identities[1]["weights"]
