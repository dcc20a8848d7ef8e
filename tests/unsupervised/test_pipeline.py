"""Prepare, decode, self-train: what lies in the folders, what is done again and what not, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from tiny import pretrain

from firstwords.cli import main
from firstwords.corpus.feature_store import FeatureWriter, read_features
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.prepared import read_prepared, write_numbers
from firstwords.corpus.synthetic import demo_sentences, make_corpus, voices
from firstwords.corpus.voice_activity import without_silence
from firstwords.decoding.settings import SearchSettings
from firstwords.encoder import load_encoder
from firstwords.errors import CorpusError
from firstwords.nn.segments import merge_runs, pool_pairs
from firstwords.recognizer import Recognizer
from firstwords.training.data import Skipped
from firstwords.unsupervised.audio import Listener, Segmenter
from firstwords.unsupervised.cepstra import WEIGHTS, Cepstra
from firstwords.unsupervised.decode import PhoneModel, features_of, prepared_features
from firstwords.unsupervised.diagnostics import ProbeConfig, cluster_purity, linear_probe, purity
from firstwords.unsupervised.readings import DecoderParts, greedy_phones, text_floor, tuned
from firstwords.unsupervised.report import Places, leave_report
from firstwords.unsupervised.times import segment_edges
from firstwords.unsupervised.voices import VOICES, Voices, speakers_of


class Place(NamedTuple):
    """Where things lie."""

    corpus: Path
    text: Path
    encoder: Path
    prepared: Path


def prepare(*arguments: object) -> int:
    return main(["unsupervised", "prepare", *map(str, arguments)])


def settings(place: Place) -> list[object]:
    return ["--audio", place.corpus, "--text", place.text, "--encoder", place.encoder, "--layer", 1, "--clusters", 20,
            "--iterations", 3, "--restarts", 1, "--dim", 8, "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("unsupervised")
    place = Place(folder / "corpus", folder / "text.txt", folder / "listen", folder / "prepared")
    sentences = demo_sentences()
    speakers = voices(3, languages=("en-us",))
    make_corpus(place.corpus, sentences[:14], speakers, "train")
    make_corpus(place.corpus, sentences[14:18], speakers, "dev")
    place.text.write_text("\n".join(sentences[100:260]) + "\n")
    assert pretrain(place.corpus, place.encoder, changes={"steps": 2}) == 0
    assert prepare(*settings(place), "--out", place.prepared) == 0
    return place


@pytest.fixture(scope="module")
def gan(place: Place) -> Path:
    """A sweep of two members that learnt next to nothing."""
    out = place.prepared.parent / "gan"
    small = "--steps 4 --batch 4 --discriminator.dim 8 --grid.seeds 0 1 --grid.gradient 1.5 --grid.smoothness 0.5 " \
            "--grid.diversity 2.0 --choice.validate-every 2 --save-every 2 --device cpu"  # fmt: skip
    assert main(["unsupervised", "train", str(place.prepared), "--out", str(out), *small.split()]) == 0
    return out


def test_all_rates_are_of_the_same_speech(place: Place) -> None:
    """From samples to segments by hand, one utterance alone, equals what was prepared in batches."""
    prepared = read_prepared(place.prepared)
    encoder, segmenter = load_encoder(place.encoder, "cpu"), Segmenter.load(place.prepared)
    assert prepared.kind == "1.0" and prepared.train.dim == 8 and len(prepared.train) == 14 and len(prepared.valid) == 4
    for utterance in read_manifest(place.corpus, ["dev"]):
        number = prepared.valid.places[utterance.id]
        speech = torch.from_numpy(without_silence(utterance.read()))
        with torch.inference_mode():
            raw = encoder(speech[None], layer=1)[0]
        clusters, frames, _, _, _ = segmenter(raw.numpy())
        stored = [prepared.features("valid", rate)[number] for rate in ("frames", "unpooled", "pooled")]
        merged = merge_runs(frames, clusters)
        for theirs, ours in zip(stored, (frames, merged, pool_pairs(merged)), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=0, atol=1e-4)
        first, last = prepared.features("valid", "frames").offsets[number : number + 2]
        np.testing.assert_array_equal(prepared.clusters("valid")[first:last], clusters.numpy())


def test_true_phones_are_spelt_as_the_text_is(place: Place) -> None:
    prepared = read_prepared(place.prepared)
    assert prepared.valid_phones is not None and set(prepared.valid_phones) == set(prepared.valid.ids)
    spoken = [phone for phones in prepared.valid_phones.values() for phone in phones]
    assert np.mean([phone in prepared.phones for phone in spoken]) > 0.95
    assert all(line[0] == line[-1] == "<SIL>" for line in prepared.sentences())


def test_steps_are_done_again_only_where_their_inputs_changed(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(place.prepared, folder)

    def done(*more: object) -> str:
        assert prepare(*settings(place), "--out", folder, *more) == 0
        return capsys.readouterr().out.split("done now: ")[1].strip()

    before = (folder / "train.npy").stat().st_mtime_ns
    assert done() == "nothing, all was up to date"
    assert (folder / "train.npy").stat().st_mtime_ns == before
    assert done("--silence-probability", 0.5) == "text, true phones"
    assert (folder / "train.npy").stat().st_mtime_ns == before
    assert done("--silence-probability", 0.5, "--clusters", 10) == "features, segments"  # raw features are not kept
    facts = json.loads((folder / "prepared.json").read_text())
    facts["finished"] = False
    (folder / "prepared.json").write_text(json.dumps(facts))
    with pytest.raises(CorpusError, match="not prepared to the end"):
        read_prepared(folder)


def test_steps_come_as_fast_as_asked(place: Place, tmp_path: Path) -> None:
    rates = {}
    for wanted in (0, 14, 100):
        out = tmp_path / str(wanted)
        assert prepare(*settings(place), "--steps-per-second", wanted, "--out", out) == 0
        prepared = read_prepared(out)
        rates[wanted] = len(prepared.train.values) / (3600 * prepared.facts["hours"]["train"])
    assert rates[0] > 18 and rates[14] == pytest.approx(14, abs=1.0) and rates[100] == rates[0]


@pytest.fixture(scope="module")
def cepstra(place: Place) -> Path:
    """Prepared with cepstra, steps from change to change."""
    out = place.prepared.parent / "cepstra"
    changes = ["--encoder", "mfcc", "--layer", 0, "--segmentation", "changes", "--dim", 512]
    assert prepare(*settings(place), *changes, "--out", out) == 0
    return out


def test_steps_between_changes_of_cepstra(place: Place, cepstra: Path, tmp_path: Path) -> None:
    """As many as wanted, as long as said, the same for other recordings; all frames belong to one."""
    prepared = read_prepared(cepstra)
    assert prepared.frame_seconds == 0.01 and prepared.train.dim == 39
    assert len(prepared.train.values) / (3600 * prepared.facts["hours"]["train"]) == pytest.approx(15, abs=1)
    frames = prepared.features("valid", "frames")
    durations = prepared.durations("valid")
    assert durations.sum() == len(frames.values) and durations.min() >= 1 and durations.max() <= 25
    for number, samples in enumerate(without_silence(u.read()) for u in read_manifest(place.corpus, ["dev"])):
        edges = segment_edges(prepared, "valid", number)
        assert len(edges) == prepared.valid.lengths[number] + 1 and (np.diff(edges) > 0).all()
        assert edges[-1] == pytest.approx(len(samples) / 16_000, abs=0.03)
        first = round(float(edges[0]) * 100), round(float(edges[1]) * 100)
        middle = frames[number][first[0] + (first[1] - first[0]) // 5 : first[1] - (first[1] - first[0]) // 5].mean(0)
        np.testing.assert_allclose(prepared.valid[number][0], middle, atol=1e-5)
    anew = features_of(prepared, read_manifest(place.corpus, ["dev"]), "pooled", tmp_path, Skipped(), "cpu")
    np.testing.assert_allclose(anew.values, prepared.valid.values, atol=1e-5)


def test_speakers_are_adapted(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cepstra go through the maps before they are cut into steps; other recordings take the same way."""
    changes = ["--encoder", "mfcc", "--layer", 0, "--segmentation", "changes", "--dim", 512, "--keep-raw"]
    adapt = ["--speaker-adaptation", "cmllr"]
    out = tmp_path / "adapted"
    assert prepare(*settings(place), *changes, *adapt, "--out", out) == 0
    assert "3 speakers, their cepstra moved" in capsys.readouterr().out
    prepared, fitted = read_prepared(out), Voices.load(out / VOICES)
    assert prepared.facts["speakers"] == 3 and prepared.train.dim == 39
    page = leave_report(tmp_path, Places(out))
    assert page is not None and "3 speakers, their cepstra moved" in page.read_text()
    plain = read_features(out / "raw", "valid")
    assert plain.dim == 13
    heard = read_manifest(place.corpus, ["dev"])
    segmenter = Segmenter.load(out)
    for name, values in fitted.adapted(plain, speakers_of(heard)):
        number = prepared.valid.places[name]
        np.testing.assert_allclose(segmenter(values).pooled, prepared.valid[number], atol=1e-4)
    anew = features_of(prepared, heard, "pooled", tmp_path / "anew", Skipped(), "cpu")
    np.testing.assert_allclose(anew.values, prepared.valid.values, atol=1e-4)
    assert prepare(*settings(place), *changes, *adapt, "--clusters", 10, "--out", out) == 0
    assert "done now: segments\n" in capsys.readouterr().out
    assert prepare(*settings(place), *changes, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "done now: features, segments\n" in printed and "cepstra moved" not in printed
    assert read_features(out / "raw", "valid").dim == 39
    for wrong, told in (([], "of cepstra only"), ([*changes, "--kind", "2.0"], "for --kind 1.0 only")):
        assert prepare(*settings(place), *wrong, *adapt, "--out", tmp_path / told.replace(" ", "-")) == 2
        assert told in capsys.readouterr().err


def test_cepstra_stand_where_an_encoder_does(place: Place) -> None:
    """Alone as in a batch; every utterance brought to the same mean and deviations, whatever its level."""
    first, second = (torch.from_numpy(u.read()) for u in read_manifest(place.corpus, ["dev"])[:2])
    lengths = torch.tensor([len(first), len(second)])
    together = Cepstra()(torch.nn.utils.rnn.pad_sequence([first, second], batch_first=True), lengths)
    for row, samples in zip(together, (first, second), strict=True):
        alone = Cepstra()(0.1 * samples[None], torch.tensor([len(samples)]))[0]
        assert len(alone) == Cepstra().frames(len(samples))
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-3, rtol=0)
        torch.testing.assert_close(alone.mean(0), torch.zeros(39), atol=1e-4, rtol=0)
        wanted = torch.tensor(WEIGHTS).repeat_interleave(13)
        torch.testing.assert_close(alone.std(0, correction=0), wanted, atol=1e-3, rtol=0)


def test_features_go_on_where_they_were_stopped(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    whole = Listener.__call__

    def stopping(self: Listener, utterances, skip):  # type: ignore[no-untyped-def]
        for utterance, values in whole(self, utterances, skip):
            if len(heard) == 5:
                raise KeyboardInterrupt
            heard.append(utterance.id)
            yield utterance, values

    monkeypatch.setattr(Listener, "__call__", stopping)
    assert prepare(*settings(place), "--out", tmp_path / "p") == 130
    monkeypatch.setattr(Listener, "__call__", whole)
    later: list[str] = []
    monkeypatch.setattr(
        Listener, "speech", lambda self, u, speech=Listener.speech: later.append(u.id) or speech(self, u)
    )
    assert prepare(*settings(place), "--out", tmp_path / "p") == 0
    assert not set(heard) & set(later) and len(heard) == 5 and len(later) == 13
    np.testing.assert_array_equal(
        read_prepared(tmp_path / "p").train.values, read_prepared(place.prepared).train.values
    )


def test_version_two_has_frames_and_units_of_mfccs(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "two"
    assert prepare(*settings(place), "--kind", "2.0", "--mfcc-clusters", 6, "--out", out) == 0
    prepared, one = read_prepared(out), read_prepared(place.prepared)
    assert prepared.kind == "2.0" and prepared.train.dim == 16 and prepared.mfcc_clusters == 6
    np.testing.assert_array_equal(prepared.train.lengths, one.features("train", "frames").lengths)
    units = prepared.train_units
    assert units.shape == (len(prepared.train.values),) and units.min() >= -1 and units.max() == 5
    assert (units == -1).mean() < 0.02
    silences = sum(line.count("<SIL>") for line in prepared.sentences())
    assert silences > 1.3 * sum(line.count("<SIL>") for line in one.sentences())


def test_diagnostics_with_labels(place: Place, tmp_path: Path) -> None:
    """Features that are the phones: a linear layer reads them, and clusters of them are pure."""
    folder = tmp_path / "clear"
    shutil.copytree(place.prepared, folder)
    random = np.random.default_rng(0)
    number = {phone: n for n, phone in enumerate(read_prepared(folder).phones)}
    for split in ("train", "valid"):
        clusters = []
        with FeatureWriter(folder / "frames", split) as writer:
            for name, phones in (read_prepared(folder).true_phones(split) or {}).items():
                said = [number[phone] for phone in phones if phone in number for _ in range(random.integers(3, 6))]
                clusters += said
                writer.add(name, 3 * np.eye(len(number))[said] + 0.3 * random.normal(size=(len(said), len(number))))
        write_numbers(folder / "frames" / f"{split}.clusters.npy", np.array(clusters))
    prepared = read_prepared(folder)
    assert linear_probe(prepared, "frames", ProbeConfig(epochs=60, batch=4, rate=0.02)) < 0.25
    assert cluster_purity(prepared, "train").phone > 0.6
    same = np.array([0, 0, 1, 2, 2, 2])
    assert dataclasses.astuple(purity(same, same)) == pytest.approx((1, 1, 1, 1))
    apart = purity(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert dataclasses.astuple(apart) == pytest.approx((0.5, 0.5, 0, 2))


def wrong(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert prepare(*arguments) == 2
    return capsys.readouterr().err


def test_what_cannot_be_prepared_is_told(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = [*settings(place), "--out", tmp_path / "out"]
    assert "no language 'en-uk' in espeak-ng; near: en-us" in wrong(capsys, *base, "--language", "en-uk")
    assert "has 2 blocks: 1 to 2" in wrong(capsys, *base, "--layer", 7)
    assert "cepstra have no blocks: --layer 0" in wrong(capsys, *base, "--encoder", "mfcc")
    assert "segments only" in wrong(capsys, *base, "--segmentation", "changes", "--clusters", 9999)
    cyrillic = tmp_path / "ru.txt"
    cyrillic.write_text("это было так давно\n" * 9)
    assert "written in Cyrillic" in wrong(capsys, *base, "--text", cyrillic)
    other = [*settings(place), "--out", place.prepared, "--kind", "2.0"]
    assert "prepared for 1.0; take another folder for 2.0" in wrong(capsys, *other)


def test_recordings_without_speech_are_named_and_left_out(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    soundfile.write(corpus / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(corpus / "noise.wav", 0.01 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    lines = [
        {"id": "silent", "audio": "silent.wav", "split": "train"},
        {"id": "noise", "audio": "noise.wav", "split": "dev"},
    ]
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    base = [*settings(place), "--out", tmp_path / "out"]
    said = wrong(capsys, *base, "--audio", corpus)
    assert "none of 1 utterances of train has speech" in said and "utterance silent: no speech found" in said
    assert "--remove-silence no" in said
    assert prepare(*base, "--audio", corpus, place.corpus) == 0
    said = capsys.readouterr().err
    assert "2 utterances left out" in said and "published runs had" in said and "sentences of text" in said
    assert "silent" in (tmp_path / "out" / "skipped.tsv").read_text()


def run(*words: object) -> int:
    return main(["unsupervised", *map(str, words)])


def test_phones_words_and_manifests(
    place: Place, gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("decode", gan, place.corpus, "--split", "dev", "--read", "greedy", "--device", "cpu") == 0
    said = capsys.readouterr()
    rows = dict(line.split("\t") for line in said.out.splitlines())
    ids = [u.id for u in read_manifest(place.corpus, ["dev"])]
    assert list(rows) == ids and "PER" in said.err and "WER" not in said.err
    weights = ["--lm-weight", 1, "--word-score", 0, "--processes", 0, "--beam", 10]
    out = tmp_path / "words.jsonl"
    assert run("decode", gan, place.corpus, "--split", "dev", *weights, "--out", out, "--device", "cpu") == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ids and all(set(line) == {"id", "text", "phones"} for line in lines)
    assert "WER" in capsys.readouterr().err
    known = {line.split()[0] for line in (place.prepared / "text" / "lexicon.txt").read_text().splitlines()}
    assert {word for line in lines for word in line["text"].split()} <= known
    folder = tmp_path / "labelled"
    assert run("decode", gan, place.corpus, "--read", "phones", *weights, "--out", folder, "--device", "cpu") == 0
    written = read_manifest(folder)
    assert all(u.text is None and u.extras["phones"] and "words" not in u.extras for u in written)
    assert len(written[0].read()) > 0


def test_other_recordings_are_heard_as_the_prepared_ones_were(place: Place, gan: Path, tmp_path: Path) -> None:
    prepared = read_prepared(place.prepared)
    utterances = read_manifest(place.corpus, ["dev"])
    for rate in ("pooled", "unpooled"):
        kept = prepared_features(prepared, utterances, rate)
        anew = features_of(prepared, utterances, rate, tmp_path, Skipped(), "cpu")
        assert kept is not None and kept.ids == anew.ids
        np.testing.assert_allclose(kept.values, anew.values, atol=1e-4)
    model = PhoneModel(gan, device="cpu")
    one = model.emissions(prepared.valid[0])
    assert one.shape[1] == len(prepared.phones)
    np.testing.assert_allclose(np.exp(one).sum(1), 1, atol=1e-5)


def test_real_text_costs_what_it_costs_a_model_that_has_not_seen_it(place: Place) -> None:
    prepared = read_prepared(place.prepared)
    decoder = DecoderParts(prepared.phones, prepared.phone_model(6), None, SearchSettings()).make()
    seen = decoder.model.perplexity(list(prepared.sentences()))
    held_out = text_floor(prepared, decoder, 40)
    assert held_out > -seen.log10 * np.log(10) / (seen.words + seen.sentences) + 0.5
    assert held_out < np.log(len(prepared.phones))


def test_weights_are_found_that_follow_the_sound_where_it_is_clear(place: Place) -> None:
    """Clear emissions of real sentences: the readings found keep to them."""
    prepared = read_prepared(place.prepared)
    lines = [line for line, _ in zip(prepared.sentences(), range(4), strict=False)]
    number = {phone: n for n, phone in enumerate(prepared.phones)}
    emissions = []
    for line in lines:
        one = np.full((len(line), len(number)), -9.0)
        one[range(len(line)), [number[phone] for phone in line]] = -0.01
        emissions.append(one)
    settings = SearchSettings(beam=8)
    parts = DecoderParts(prepared.phones, prepared.phone_model(4), None, settings)
    decoder = parts.make()
    found, cost = tuned(parts, emissions, text_floor(prepared, decoder))
    assert cost > 0
    for one in emissions:
        assert list(decoder(one, found).phones) == greedy_phones(one, prepared.phones)


def test_self_training_goes_through_all_its_steps_once(
    place: Place, gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "words"
    recognizer = [
        "--recognizer.steps", 2, "--recognizer.training.validate-every", 2, "--recognizer.training.device", "cpu",
        "--recognizer.adapt.fresh-blocks", 0, "--recognizer.training.workers", 1,
    ]  # fmt: skip
    hmm = ["--rounds", 1, "--hmm.gaussians", 1, "--hmm.viterbi-rounds", 1, "--hmm.em-rounds", 1, "--hmm.lda", 0]
    arguments = ["self-train", gan, place.corpus, "--out", out, *hmm, "--beam", 4, "--device", "cpu", *recognizer]
    assert run(*arguments, "--beam", 0) == 2 and "beam below 1" in capsys.readouterr().err
    assert run(*arguments) == 0
    table = json.loads((out / "table.json").read_text())
    steps = ["generator, greedy", "generator, phone model", "HMM 1, phone model", "HMM, words",
             "HMM 2 from words, words"]  # fmt: skip
    assert [row["name"] for row in table] == [*steps, "CTC, greedy", "CTC, word model"]
    assert all(row["per"] is not None and row["perplexity"] > 1 for row in table)
    assert "fluency" in capsys.readouterr().out
    assert Recognizer.load(out / "ctc", "cpu").alphabet.units == "characters"
    pseudo = read_manifest(out / "pseudo")
    true = {u.id: u.text for u in read_manifest(place.corpus)}
    assert all(u.text != true[u.id] for u in pseudo), "no label is ever learnt from"
    labels = (out / "hmm1" / "hmm.safetensors").stat().st_mtime_ns
    assert run(*arguments) == 0
    assert (out / "hmm1" / "hmm.safetensors").stat().st_mtime_ns == labels
    assert json.loads((out / "table.json").read_text()) == table


def test_self_training_on_some_utterances_of_cepstra(
    place: Place, cepstra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """HMMs see a frame in 20 ms of as many utterances as were asked for; the recogniser needs an encoder."""
    gan, out = tmp_path / "gan", tmp_path / "words"
    sweep = "--steps 2 --batch 4 --discriminator.dim 8 --grid.seeds 0 --grid.gradient 1.5 --grid.smoothness 0.5 " \
            "--grid.diversity 2.0 --choice.validate-every 2 --save-every 2 --device cpu"  # fmt: skip
    assert main(["unsupervised", "train", str(cepstra), "--out", str(gan), *sweep.split()]) == 0
    small = "--utterances 5 --rounds 1 --word-rounds 0 --hmm.gaussians 1 --hmm.viterbi-rounds 1 --hmm.em-rounds 0 " \
            "--hmm.lda 0 --beam 4 --device cpu --recognizer.steps 1 --recognizer.training.validate-every 1 " \
            "--recognizer.training.workers 1 --recognizer.training.device cpu " \
            "--recognizer.adapt.fresh-blocks 0"  # fmt: skip
    arguments = ["self-train", gan, place.corpus, "--out", out, *small.split()]
    assert run(*arguments) == 2 and "name an encoder" in capsys.readouterr().err
    assert run(*arguments, "--encoder", place.encoder) == 0
    learnt = (out / "labels" / "hmm1.train.tsv").read_text().splitlines()
    ids = read_prepared(cepstra).train.ids
    assert [line.split("\t")[0] for line in learnt] == [ids[n] for n in (0, 3, 6, 10, 13)]
    stored = read_features(out / "frames", "train")
    np.testing.assert_array_equal(stored[3], read_prepared(cepstra).features("train", "frames")[3][::2])
    assert len(read_manifest(out / "pseudo", ["train"])) <= 5
    assert Recognizer.load(out / "ctc", "cpu").alphabet.units == "characters"
    shutil.rmtree(out / "ctc")  # a reading of the valid split with a character that training never reads
    first, *others = (out / "labels" / "words.valid.tsv").read_text().splitlines()
    kept = "\n".join(["\t".join([*first.split("\t")[:2], "the 15 men"]), *others]) + "\n"
    (out / "labels" / "words.valid.tsv").write_text(kept)
    assert run(*arguments, "--encoder", place.encoder) == 0
    made = (out / "frames" / "train.npy").stat().st_mtime_ns
    (cepstra / "frames" / "train.npy").touch()  # as if it had been prepared again
    (out / "labels" / "hmm1.train.tsv").unlink()
    assert run(*arguments, "--ctc", "none") == 0
    assert (out / "frames" / "train.npy").stat().st_mtime_ns > made


def test_a_model_of_another_folder_is_refused(
    place: Place, gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("decode", gan, place.corpus, "--prepared", tmp_path) == 2
    assert "say where it is with --prepared" in capsys.readouterr().err
    assert run("decode", gan, place.corpus, "--read", "greedy", "--lm", tmp_path / "x") == 2
    assert "takes no --lm" in capsys.readouterr().err
