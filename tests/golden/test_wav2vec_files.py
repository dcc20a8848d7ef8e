"""wav2vec's `.pt` files in fairseq's layouts, old and new, through every door that a model comes in by."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from golden import Case, cases

from firstwords.checkpoints.models import encoder_of, wav2vec_of
from firstwords.checkpoints.own import read_checkpoint
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.cli import main
from firstwords.encoder import load_encoder
from firstwords.errors import CheckpointError

CASES = cases("wav2vec 1.0")
FILES = [pytest.param(case, path.name, id=f"{case}-{path.stem}") for case in CASES for path in case.folder.glob("*.pt")]


def layouts(case: Case) -> dict[str, dict]:
    """What fairseq wrote over the years, all of the same model."""
    config, weights = case.info["config"], case.weights
    old = argparse.Namespace(**config, arch="audio_cpc", task="speech_pretraining", criterion="binary_cross_entropy")
    model = {"_name": "wav2vec", **config}
    groups = {"model": model, "task": {"_name": "audio_pretraining", "normalize": False, "sample_rate": 16_000}}
    criterion = {"_name": "wav2vec", "infonce": "${model.infonce}"}
    return {
        "args": {"args": old, "model": weights, "extra_state": {"epoch": 1}},
        "cfg": {"args": None, "cfg": groups | {"criterion": criterion}, "model": weights},
        "half": {"cfg": groups | {"criterion": {}}, "model": {name: value.half() for name, value in weights.items()}},
    }


@pytest.mark.parametrize("layout", ["args", "cfg", "half"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts(case: Case, layout: str, tmp_path: Path) -> None:
    path = tmp_path / "wav2vec.pt"
    torch.save(layouts(case)[layout], path)
    checkpoint, where = open_checkpoint(path)
    assert checkpoint.kind == "wav2vec" and checkpoint.state["imported"]["format"] == "fairseq"
    model = wav2vec_of(checkpoint, where).eval()
    assert model.offset == case.info["derived"]["offset"]
    assert model.config.contrast.loss == ("infonce" if case.info["config"]["infonce"] else "binary")
    with torch.no_grad():
        context = model.encoder(case["source"]).features.transpose(1, 2)
    if layout == "half":
        assert (context - case["c"]).abs().max() < 0.02 * case["c"].abs().max()
    else:
        case.close(context, "c")


@pytest.mark.parametrize(("case", "name"), FILES)
class TestFiles:
    def test_encoder(self, case: Case, name: str) -> None:
        """load_encoder gives z as layer 0 and c as the output, and says the stride."""
        encoder = load_encoder(case.folder / name, "cpu")
        source = case["source"]
        assert (encoder.stride, encoder.receptive_field) == (160, 465)
        assert int(encoder.frames(source.shape[1])) == case["c"].shape[2] and encoder.dim == case["c"].shape[1]
        with torch.no_grad():
            case.close(encoder(source).transpose(1, 2), "c")
            case.close(encoder(source, layer=0).transpose(1, 2), "z")
            case.close(encoder(source, layer=encoder.layers).transpose(1, 2), "c")
            states, frames = encoder.hidden_states(source)
            assert len(states) == encoder.layers + 1 and frames.tolist() == [case["c"].shape[2]] * 2
            assert torch.equal(states[0], encoder(source, layer=0)) and torch.equal(states[-1], encoder(source))
        with pytest.raises(ValueError, match="layer"):
            encoder(source, layer=encoder.layers + 1)

    def test_convert(self, case: Case, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", str(case.folder / name), str(tmp_path / "ours")]) == 0
        ours = read_checkpoint(tmp_path / "ours" / "best.safetensors")
        theirs, _ = open_checkpoint(case.folder / name)
        assert ours.config == theirs.config and ours.weights.keys() == theirs.weights.keys()
        assert all(torch.equal(value, theirs.weights[key]) for key, value in ours.weights.items())
        capsys.readouterr()
        assert main(["convert", str(case.folder / name), str(tmp_path / "hf"), "--to", "huggingface"]) == 2
        assert "Firstwords only" in capsys.readouterr().err and not (tmp_path / "hf").exists()

    def test_it_is_no_wav2vec2_encoder(self, case: Case, name: str) -> None:
        checkpoint, where = open_checkpoint(case.folder / name)
        with pytest.raises(CheckpointError, match=r"no wav2vec 2\.0 encoder; its features serve"):
            encoder_of(checkpoint, where)


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    case = CASES[0]
    for change, says in (
        ({"aggregator": "gru"}, "aggregator = 'gru': only 'cnn' is read"),
        ({"project_features": "same"}, "project_features = 'same'"),
        ({"conv_aggregator_layers": "[(24, 3, 2)]"}, "only strides of 1"),
    ):
        values = layouts(case)["cfg"]
        values["cfg"]["model"] |= change
        torch.save(values, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=says):
            open_checkpoint(tmp_path / "other.pt")
