"""Models that others wrote, read by us: every layer and every logit against their own libraries."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from golden import Case, cases
from torch import Tensor

from firstwords.checkpoints.models import ctc_of, pretraining_of
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.models.heads import CTCModel
from firstwords.nn.lengths import normalize_waveform
from firstwords.recognizer import Recognizer

HUGGINGFACE = [
    case for name in ("Wav2Vec2ForCTC", "HubertForCTC", "WavLMForCTC") for case in cases(f"Hugging Face {name}")
]
ADAPTERS = cases("Hugging Face MMS-style adapters")
PRETRAINED = cases("Hugging Face Wav2Vec2ForPreTraining")
FAIRSEQ = [
    pytest.param(case, path.name, id=f"{case}-{path.stem}")
    for case in cases("wav2vec 2.0 CTC")
    for path in sorted(case.folder.glob("*.pt"))
]


def read(place: Path, adapter: str | None = None) -> CTCModel:
    checkpoint, where = open_checkpoint(place, adapter)
    return ctc_of(checkpoint, where).eval()


def with_padded_statistics(model: CTCModel) -> CTCModel:
    """As the released models, whose group norm averages over the padding too."""
    norm = model.encoder.feature_encoder
    norm.config = dataclasses.replace(norm.config, group_statistics="padded")  # type: ignore[union-attr, arg-type]
    return model


def close_inside(case: Case, ours: Tensor, name: str, frames: Tensor) -> None:
    """Over each utterance's own frames."""
    theirs = case[name]
    for row, count in enumerate(frames.tolist()):
        case.near(ours[row, :count], theirs[row, :count], f"{name} row {row}")


@pytest.mark.parametrize("case", HUGGINGFACE, ids=str)
class TestHuggingFace:
    @torch.inference_mode()
    def test_logits_alone(self, case: Case) -> None:
        model = read(case.folder)
        for number in range(2):
            case.close(model(case[f"single{number}/input_values"]).logits, f"single{number}/logits")

    @pytest.mark.parametrize("part", ["batch", "batch_masked"])
    @torch.inference_mode()
    def test_layers(self, case: Case, part: str) -> None:
        if f"{part}/input_values" not in case.tensors:
            pytest.skip("the case has no such pass")
        model = with_padded_statistics(read(case.folder))
        waveforms, mask = case[f"{part}/input_values"], case.get(f"{part}/attention_mask")
        lengths = None if mask is None else mask.sum(1)
        logits, frames = model(waveforms, lengths)
        close_inside(case, logits, f"{part}/logits", frames)
        close_inside(case, model.encoder(waveforms, lengths).features, f"{part}/last_hidden_state", frames)
        layers = [name for name in case.tensors if name.startswith(f"{part}/hidden_states.")]
        assert layers
        for name in layers:
            number = int(name.rsplit(".", 1)[1])
            close_inside(case, model.encoder(waveforms, lengths, layer=number).features, name, frames)

    def test_text(self, case: Case) -> None:
        """Recordings to text as transformers decodes them, special symbols left out."""
        recognizer = Recognizer.load(case.folder, device="cpu")
        for number, strings in enumerate(case.info["strings"]):
            expected = " ".join(strings["single_greedy_skip_special"].split())
            assert greedy_text(recognizer, case[f"single{number}/input_values"]) == without_doubles(expected)


def greedy_text(recognizer: Recognizer, waveform: Tensor) -> str:
    ids = recognizer.model(waveform).logits[0].argmax(-1).tolist()
    kept = [i for n, i in enumerate(ids) if i and (n == 0 or ids[n - 1] != i)]
    return without_doubles(recognizer.alphabet.decode(kept))


def without_doubles(text: str) -> str:
    """transformers drops special symbols before it joins repeats, we after; both agree but for doubled letters."""
    return "".join(c for n, c in enumerate(text) if n == 0 or text[n - 1] != c)


def test_pickled_weights() -> None:
    """pytorch_model.bin gives what model.safetensors gives, older names included."""
    case = cases("Hugging Face Wav2Vec2ForCTC")
    folder = next(c.folder for c in case if (c.folder / "pytorch_model.bin").is_file())
    pickled, _ = open_checkpoint(folder / "pytorch_model.bin")
    safe, _ = open_checkpoint(folder / "model.safetensors")
    assert pickled.weights.keys() == safe.weights.keys()
    assert all(torch.equal(value, safe.weights[name]) for name, value in pickled.weights.items())


@pytest.mark.parametrize("case", ADAPTERS, ids=str)
@pytest.mark.parametrize("language", ["eng", "fra"])
@torch.inference_mode()
def test_languages(case: Case, language: str) -> None:
    """One encoder, two languages with alphabets of their own."""
    model = read(case.folder, language)
    lengths = case["attention_mask"].sum(1)
    logits, frames = model(case["input_values"], lengths)
    close_inside(case, logits, f"{language}/logits", frames)
    for number in range(3):
        ours = model.encoder(case["input_values"], lengths, layer=number).features
        close_inside(case, ours, f"{language}/hidden_states.{number}", frames)
    recognizer = Recognizer.load(case.folder, "cpu", adapter=language)
    assert ("é" in recognizer.alphabet.symbols) == (language == "fra")


@pytest.mark.parametrize("case", PRETRAINED, ids=str)
@torch.inference_mode()
def test_pretrained(case: Case) -> None:
    """Context and quantised targets, projected."""
    checkpoint, where = open_checkpoint(case.folder)
    model = pretraining_of(checkpoint, where).eval()
    waveforms, mask = case["input_values"], case.get("attention_mask")
    lengths = torch.full((len(waveforms),), waveforms.shape[1]) if mask is None else mask.sum(1)
    normed = model.encoder.latent_norm(model.encoder.feature_encoder(waveforms, lengths))
    targets = model.target_projection(model.quantizer(normed.flatten(0, 1), 1.0).vectors)
    theirs = case["eval/projected_quantized_states"]
    case.near(targets.view_as(theirs), theirs, "targets")
    hidden = case["mask_time_indices"]
    context = model.context_projection(model.encoder(waveforms, lengths, mask=hidden).features)
    case.close(context, "eval/projected_states")


@pytest.mark.parametrize(("case", "name"), FAIRSEQ)
class TestFairseq:
    @torch.inference_mode()
    def test_logits(self, case: Case, name: str) -> None:
        model = read(case.folder / name)
        for number in range(2):
            waveform = case[f"utt{number}/raw"][None]
            if case.info["config"]["normalize"]:
                assert model.encoder.config.normalize_waveform
                waveform = normalize_waveform(waveform, epsilon=model.encoder.config.normalize_epsilon)
            case.near(model(waveform).logits[0], case[f"utt{number}/logits"], f"utt{number}")

    @torch.inference_mode()
    def test_text(self, case: Case, name: str, tmp_path: Path) -> None:
        """The dictionary is in the file or beside it; without one, 32 outputs are the published letters."""
        places = [case.folder / name, Path(shutil.copy(case.folder / name, tmp_path))]
        for place in places:
            recognizer = Recognizer.load(place, device="cpu")
            own = case.info["config"][
                "normalize"
            ]  # with group norm the padding of the golden batch changed the shorter
            for number, strings in enumerate(case.info["strings"][: 2 if own else 1]):
                found = recognizer.transcribe(case[f"utt{number}/raw"].numpy())
                assert found.text == " ".join(strings["greedy_words"].replace("<unk>", "").split())
