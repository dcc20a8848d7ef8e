"""Wherever a model is expected: a run of ours, a Hugging Face folder or file, a fairseq `.pt`, a name on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from firstwords.checkpoints import code_bert
from firstwords.checkpoints.adapters import KIND as ADAPTER
from firstwords.checkpoints.adapters import adapter_names, find_adapter, with_adapter
from firstwords.checkpoints.fairseq_files import is_fairseq, read_fairseq
from firstwords.checkpoints.huggingface import CONFIG, is_huggingface, read_huggingface
from firstwords.checkpoints.own import Checkpoint, checkpoint_path, read_checkpoint
from firstwords.checkpoints.pickles import read_pickled
from firstwords.errors import CheckpointError, MissingExtraError

HUB_NAME = re.compile(r"(?P<owner>[\w.-]+)/(?P<model>[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
"""owner/model, or owner/model@revision."""
PICKLES = (".pt", ".pth", ".bin", ".ckpt")


def open_checkpoint(place: str | Path, adapter: str | None = None) -> tuple[Checkpoint, str]:
    """The model at `place`, whoever wrote it, as a checkpoint of ours, and what to call it in errors.

    Args:
        place: a run or checkpoint of ours; a folder that transformers wrote, or a weights file in one; a `.pt` file of
            fairseq; a name on the Hugging Face hub (owner/model), which is downloaded or taken from the local cache.
        adapter: which language of a model that has adapters for several, or the place of a run that holds small
            weights for this model (see `checkpoints.adapters`); None takes what is in its weights.

    Raises:
        CheckpointError: nothing there, cut short, refused, or a model of another kind.
        MissingExtraError: a hub name without huggingface_hub.
    """
    path = Path(place)
    if not path.exists() and is_hub_name(str(place)):
        path = download(str(place), adapter)
    if adapter is not None and (small := find_adapter(path, adapter)) is not None:
        base, where = open_checkpoint(path)
        return with_adapter(base, small, str(place)), f"{where} with {small}"
    if path.is_dir() and is_huggingface(path) and not _has_run(path):
        return _huggingface(path, None, adapter), str(place)
    if path.suffix in PICKLES and path.is_file():
        return _pickled(path, adapter), str(place)
    if path.suffix == ".safetensors" and path.is_file() and not _is_ours(path):
        return _huggingface(_beside(path), path, adapter), str(place)
    path = checkpoint_path(path)
    checkpoint = read_checkpoint(path)
    if adapter is not None:
        known = ", ".join(adapter_names(path)) or "none"
        raise CheckpointError(f"{path}: no adapter {adapter!r}: neither a run of that name nor one beside it ({known})")
    if checkpoint.kind == code_bert.KIND and not code_bert.is_joined(checkpoint):
        return code_bert.with_codes(checkpoint, path), str(path)
    if checkpoint.kind == ADAPTER:
        return _on_its_base(checkpoint, path), str(path)
    return checkpoint, str(path)


def _on_its_base(small: Checkpoint, path: Path) -> Checkpoint:
    """A run that holds small weights only, on the model that it was trained on."""
    place = small.state["base"]
    try:
        base, where = open_checkpoint(place)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: small weights for {place}, which cannot be read ({error}); where that model lies elsewhere now, "
            f"name it and choose this with --adapter {path}"
        ) from error
    return with_adapter(base, path, where)


def is_hub_name(place: str) -> bool:
    """Whether text can only mean a model on the hub: owner/model where there is no folder of the owner's name."""
    match = HUB_NAME.fullmatch(place)
    return match is not None and not Path(match["owner"]).exists() and match["owner"] not in (".", "..")


def download(name: str, adapter: str | None = None) -> Path:
    """The local folder of a hub model: only configuration, vocabulary and weights are fetched, no code.

    HF_HUB_OFFLINE and the cache are respected as huggingface_hub does.

    Raises:
        CheckpointError: no such model, no permission, or no network and not in the cache.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"{name}: no such file here; reading a model of that name from the hub", "huggingface_hub", "huggingface"
        ) from error
    match = HUB_NAME.fullmatch(name)
    assert match is not None
    wanted = ["*.json", "language_model/*", "model*.safetensors"]
    wanted += [f"adapter.{adapter}.*"] if adapter else []
    try:
        where = {"repo_id": f"{match['owner']}/{match['model']}", "revision": match["revision"]}
        folder = Path(snapshot_download(**where, allow_patterns=wanted))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(**where, allow_patterns=[*wanted, "pytorch_model*.bin*"]))
    except Exception as error:  # every library below has errors of its own: requests, httpx, the hub's
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name}: no such file here, and none from the Hugging Face hub ({type(error).__name__}: {reason})"
        ) from error
    return folder


def _pickled(path: Path, adapter: str | None) -> Checkpoint:
    values = read_pickled(path)
    if is_fairseq(values):
        return read_fairseq(path, values)
    if (path.parent / CONFIG).is_file():
        return _huggingface(path.parent, path, adapter)
    return read_fairseq(path, values)  # says what is wrong with it


def _huggingface(folder: Path, weights: Path | None, language: str | None) -> Checkpoint:
    try:
        checkpoint = read_huggingface(folder, weights, language)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{folder}: {CONFIG} or a file beside it holds a value that no such model has "
            f"({type(error).__name__}: {error})"
        ) from error
    announced = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("vocab_size")
    if checkpoint.kind == "ctc" and language is None and announced is not None:
        kept = checkpoint.state["imported"].get("outputs")
        rows = len(checkpoint.weights["output.weight"]) if kept is None else sum(one is not None for one in kept)
        if announced != rows:
            raise CheckpointError(
                f"{folder}: {CONFIG} says vocab_size = {announced!r}, the output layer (lm_head) has {rows} rows; they "
                "belong to different models"
            )
    return checkpoint


def _beside(path: Path) -> Path:
    if not (path.parent / CONFIG).is_file():
        raise CheckpointError(
            f"{path}: not a Firstwords checkpoint, and no config.json beside it to say what model it is"
        )
    return path.parent


def _has_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("best.safetensors", "last.safetensors"))


def _is_ours(path: Path) -> bool:
    """Whether a safetensors file is ours; one that cannot be read counts as ours, and its error is told there."""
    try:
        with safe_open(path, framework="pt") as file:
            return "firstwords" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return not (path.parent / CONFIG).is_file()
