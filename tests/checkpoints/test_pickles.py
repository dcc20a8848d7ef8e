"""Pickles are read without running them."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firstwords.checkpoints.fairseq_files import open_fairseq
from firstwords.checkpoints.models import load_any_encoder, load_wav2vec_u
from firstwords.checkpoints.pickles import Inert, read_pickled
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.cli import main
from firstwords.errors import CheckpointError

LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Attack:
    """Unpickling calls a function with arguments of the attacker's choice."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def save(values: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(values, path, _use_new_zipfile_serialization=zipped)
    return path


class TestAttacks:
    @LAYOUTS
    @pytest.mark.parametrize("layer", ["model", "args", "weights"])
    def test_no_code_runs(self, zipped: bool, layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The file that the pickle would create does not appear, wherever in it the attack sits."""
        proof = tmp_path / "proof"
        attack = Attack(os.system, f"touch {proof}")
        values: dict[str, Any] = {"model": {"w": torch.ones(2)}, "args": argparse.Namespace(arch="wav2vec2")}
        if layer == "weights":
            values["model"]["x"] = attack
        else:
            values[layer] = attack
        path = save(values, tmp_path / "model.pt", zipped)
        assert main(["convert", str(path), str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "refused" in said and f"{os.system.__module__}.system" in said and "Traceback" not in said
        assert not proof.exists() and not (tmp_path / "out").exists()
        torch.load(path, weights_only=False)
        assert proof.exists(), "the attack must be a real one"

    @pytest.mark.parametrize(
        "function", [eval, exec, getattr, open, __import__, os.remove, pickle.loads, np.load, torch.load, type]
    )
    def test_refused_by_name(self, function: Any, tmp_path: Path) -> None:
        path = save({"model": Attack(function, "1")}, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=rf"refused.*{function.__name__}"):
            read_pickled(path)

    def test_known_classes_are_not_theirs(self, tmp_path: Path) -> None:
        """A name from fairseq is answered by a stand-in, though a module of that name could be imported."""
        module = tmp_path / "fairseq"
        module.mkdir()
        (module / "__init__.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')\n")
        content = pickle.dumps(0)[:2] + b"cfairseq\nThing\n(tR}(X\x01\x00\x00\x00aK\x01ub."
        found = read_pickled(as_torch_zip(content, tmp_path / "model.pt"))
        assert isinstance(found, Inert) and found.path == "fairseq.Thing" and found.state == {"a": 1}
        assert not (tmp_path / "proof").exists()

    def test_tensor_beyond_its_storage(self, tmp_path: Path) -> None:
        """Numbers that would read other memory are refused."""
        path = save({"model": Attack(torch._utils._rebuild_tensor_v2, torch.ones(2).untyped_storage(), 0, (9,), (1,),
                                     False, collections.OrderedDict())}, tmp_path / "model.pt")  # fmt: skip
        with pytest.raises(CheckpointError):
            read_pickled(path)


def as_torch_zip(content: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return path


class TestReading:
    @LAYOUTS
    def test_tensors(self, zipped: bool, tmp_path: Path) -> None:
        """Kinds, views, shared storages, empty ones."""
        base = torch.arange(12.0).view(3, 4)
        values = {
            "half": base.half(), "bfloat16": base.bfloat16(), "double": base.double(), "long": base.long(),
            "bool": base > 3, "view": base.T[1:], "row": base[1], "empty": torch.empty(0, 3),
            "scalar": torch.tensor(2.5), "parameter": torch.nn.Parameter(base),
        }  # fmt: skip
        found = read_pickled(save(values, tmp_path / "t.pt", zipped))
        for name, value in values.items():
            assert found[name].dtype == value.dtype and torch.equal(found[name], value.detach()), name

    @LAYOUTS
    def test_plain_values(self, zipped: bool, tmp_path: Path) -> None:
        values = {
            "numbers": [1, 2.5, True, None, 2**70], "text": "é", "bytes": b"\x00\xff", "pair": (1, 2),
            "ordered": collections.OrderedDict(a=1), "default": collections.defaultdict(list, b=[1]),
            "set": {3}, "float64": np.float64(0.25), "int": np.int64(-3), "size": torch.Size([2, 3]),
        }  # fmt: skip
        found = read_pickled(save(values, tmp_path / "p.pt", zipped))
        assert found["float64"] == 0.25 and found["int"] == -3
        assert {k: v for k, v in found.items() if k not in ("float64", "int")} == {
            k: v for k, v in values.items() if k not in ("float64", "int")
        }

    @LAYOUTS
    @pytest.mark.parametrize("keep", [0, 3, 60, 0.5, 0.9, 0.999])
    def test_cut_short(self, zipped: bool, keep: float, tmp_path: Path) -> None:
        path = save({"model": {"w": torch.randn(300)}, "args": None}, tmp_path / "cut.pt", zipped)
        data = path.read_bytes()
        path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
        with pytest.raises(CheckpointError, match=r"cut\.pt"):
            read_pickled(path)

    def test_other_files(self, tmp_path: Path) -> None:
        for name, data in (("text", b"hello there"), ("pickle", pickle.dumps({"a": 1})), ("zeros", bytes(100))):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(CheckpointError):
                read_pickled(tmp_path / name)
        with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
            archive.writestr("readme.txt", "x")
        with pytest.raises(CheckpointError, match=r"not one of torch\.save \(it holds readme\.txt\)"):
            read_pickled(tmp_path / "zip")
        with pytest.raises(CheckpointError, match="no such file"):
            read_pickled(tmp_path / "nothing")


FAMILIES = {
    "wav2vec": "feature_aggregator.conv_layers.0.1.weight",
    "vq-wav2vec": "vector_quantizer.vars",
    "wav2vec-u": "generator.proj.1.weight",
    "hubert": "label_embs_concat",
    "data2vec": "regression_head.weight",
}


class TestFamilies:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_are_told_apart(self, family: str, tmp_path: Path) -> None:
        """By their parameters; what cannot be read is called by its name, and so is a file that lacks most of them."""
        values = {
            "model": {FAMILIES[family]: torch.ones(1)},
            "cfg": {"model": {"_name": family.replace("-", "_")}, "task": {}},
        }
        path = save(values, tmp_path / "model.pt")
        assert open_fairseq(path).family == family
        known = family not in ("hubert", "data2vec")
        reason = "model.pt" if known else f"fairseq's {family}, which cannot be read yet"
        with pytest.raises(CheckpointError, match=reason):
            load_wav2vec_u(path) if family == "wav2vec-u" else load_any_encoder(path)

    def test_references_in_configurations(self, tmp_path: Path) -> None:
        """omegaconf's "${task.normalize}" stands for another value."""
        values = {"model": {"mask_emb": torch.ones(1)}, "args": None,
                  "cfg": {"model": {"normalize": "${task.normalize}"}, "task": {"normalize": True}}}  # fmt: skip
        file = open_fairseq(save(values, tmp_path / "model.pt"))
        assert file.family == "wav2vec2" and file.model["normalize"] is True

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="not a checkpoint of fairseq"):
            open_checkpoint(save({"state_dict": {}}, tmp_path / "model.pt"))
