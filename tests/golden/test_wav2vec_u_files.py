"""wav2vec-U's `.pt` files of fairseq: the golden weights in such a file are the golden model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import write_tone
from golden import Case
from test_wav2vec_u_models import GAN

from firstwords.checkpoints.models import load_wav2vec_u
from firstwords.cli import main
from firstwords.errors import CheckpointError


def write(case: Case, folder: Path, **options: object) -> Path:
    """The case's model as fairseq's trainer saves it, with its dictionary beside it."""
    specials = case.info["specials"]
    phones = [f"p{n}" for n in range(case.info["vocabulary_size"] - len(specials))] + ["<SIL>"]
    (folder / "dict.txt").write_text("".join(f"{phone} 9\n" for phone in phones))
    model = {"_name": "wav2vec_u", **case.info["config"], **options}
    weights = dict(case.weights)
    if "generator.bn.weight" in weights:
        weights["generator.bn.num_batches_tracked"] = torch.tensor(3)
    task = {"_name": "unpaired_audio_text", "labels": "phn", "text_data": "somewhere"}
    torch.save({"model": weights, "args": None, "cfg": {"model": model, "task": task}}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


@pytest.mark.parametrize("case", GAN, ids=str)
class TestFiles:
    @torch.no_grad()
    def test_logits(self, case: Case, tmp_path: Path) -> None:
        model, checkpoint = load_wav2vec_u(write(case, tmp_path))
        logits, _ = model(case["features"], (~case["padding_mask"]).sum(1))
        case.close(logits[0], "eval/generator_logits")
        assert checkpoint.state["phones"][-1] == checkpoint.state["silence"] == "<SIL>"
        assert len(checkpoint.state["phones"]) == case.info["vocabulary_size"] - 4

    def test_without_a_dictionary(self, case: Case, tmp_path: Path) -> None:
        path = write(case, tmp_path)
        (tmp_path / "dict.txt").unlink()
        with pytest.raises(CheckpointError, match=r"dict\.txt"):
            load_wav2vec_u(path)

    def test_convert(self, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Into a checkpoint of ours with the phones, and into nothing else; what it cannot do is said."""
        path, out = write(case, tmp_path), tmp_path / "ours"
        assert main(["convert", str(path), str(out)]) == 0
        assert "generator of phones" in capsys.readouterr().out
        (model, checkpoint), (again, converted) = load_wav2vec_u(path), load_wav2vec_u(out)
        assert converted.state["phones"] == checkpoint.state["phones"]
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
        sound = str(write_tone(tmp_path / "a.wav", 1.0))
        for arguments, words in (
            (["convert", str(path), str(tmp_path / "x"), "--to", "huggingface"], "written for Firstwords only"),
            (["transcribe", str(path), sound], "unsupervised decode"),
            (["embed", str(path), sound, "--out", str(tmp_path / "x")], "reads features that another model makes"),
        ):
            assert main(arguments) == 2
            assert words in capsys.readouterr().err

    def test_options_that_no_published_model_has(self, case: Case, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="discriminator_max_pool"):
            load_wav2vec_u(write(case, tmp_path, discriminator_max_pool=True))
