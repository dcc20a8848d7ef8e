"""Reading fairseq's `.pt` files: which model of the family it is, its configuration, weights and dictionary.

A family is added by one function in `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints import code_bert
from firstwords.checkpoints.fairseq import wav2vec2_config, wav2vec2_weights
from firstwords.checkpoints.fairseq_roberta import code_bert_config, code_bert_weights, is_roberta
from firstwords.checkpoints.fairseq_vq import vq_wav2vec_config, vq_wav2vec_weights
from firstwords.checkpoints.fairseq_wav2vec import wav2vec_config, wav2vec_weights
from firstwords.checkpoints.own import Checkpoint
from firstwords.checkpoints.pickles import Inert, read_pickled
from firstwords.checkpoints.vocabulary import LETTERS, NEVER, imported_alphabet, reordered
from firstwords.checkpoints.wav2vec_u import wav2vec_u_config, wav2vec_u_weights
from firstwords.config import to_dict
from firstwords.errors import CheckpointError
from firstwords.models.heads import CTCConfig
from firstwords.models.wav2vec_u import SILENCE

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""What fairseq's dictionaries start with; the first is CTC's blank."""
CTC_START = "w2v_encoder.w2v_model."
PRETRAINING_ONLY = ("quantizer.", "project_q.", "final_proj.", "target_glu.", "input_quantizer.", "project_inp.")


@dataclass
class FairseqFile:
    """What a `.pt` file says, in plain containers."""

    path: Path
    family: str
    """"wav2vec2", "wav2vec2-ctc", "wav2vec", "vq-wav2vec", "wav2vec-u", or fairseq's own name of another model."""
    model: dict[str, Any]
    """Options of the model: `cfg.model`, or all of the old `args`."""
    task: dict[str, Any]
    """Options of the task: `cfg.task`, or all of the old `args`."""
    criterion: dict[str, Any]
    """Options of the loss: `cfg.criterion`, or all of the old `args`."""
    weights: dict[str, Tensor]
    """By fairseq's names, floating point as float32."""
    dictionary: list[str] | None = None
    """Target symbols by id, the four specials first; None where neither the file nor its folder has them."""
    notes: list[str] = field(default_factory=list)
    """What a user should know."""


def is_fairseq(values: Any) -> bool:
    """Whether the object in a pickle looks like a checkpoint of fairseq's trainer."""
    return isinstance(values, dict) and isinstance(values.get("model"), dict) and ("args" in values or "cfg" in values)


def read_fairseq(path: Path, values: Any = None) -> Checkpoint:
    """The model in a `.pt` file of fairseq, as a checkpoint of ours; see `read_huggingface` for its `state`.

    Args:
        path: the file; a CTC model's dictionary is looked for in it and beside it (dict.ltr.txt).
        values: what `read_pickled` made of it, where that has been done.

    Raises:
        CheckpointError: no checkpoint of fairseq's, or a model that is not read.
    """
    file = open_fairseq(path, values)
    if file.family not in FAMILIES:
        read = ", ".join(FAMILIES)
        raise CheckpointError(
            f"{path}: a checkpoint of fairseq's {file.family}, which cannot be read yet; read: {read}"
        )
    rate = file.task.get("sample_rate") or SAMPLE_RATE
    if rate != SAMPLE_RATE:
        raise CheckpointError(
            f"{path}: the model hears audio at {rate} Hz; Firstwords works at {SAMPLE_RATE} Hz, and there is no "
            "converting weights between the two; choose a model for 16 kHz"
        )
    try:
        checkpoint = FAMILIES[file.family](file)
    except (CheckpointError, LookupError, ValueError, SyntaxError, TypeError) as error:
        lacking = f"its configuration lacks {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path}: {lacking}") from error
    checkpoint.state |= {
        "imported": {"format": "fairseq", "model_type": file.family, "name": path.name},
        "notes": file.notes,
    }
    return checkpoint


def open_fairseq(path: Path, values: Any = None) -> FairseqFile:
    """Reads a `.pt` file and tells its family. Raises CheckpointError where it is no checkpoint of fairseq's."""
    values = read_pickled(path) if values is None else values
    if not is_fairseq(values):
        keys = ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise CheckpointError(f"{path}: not a checkpoint of fairseq (no model with args or cfg; {keys[:200]})")
    weights = {name: value.float() for name, value in values["model"].items() if isinstance(value, Tensor)}
    if values.get("args") is not None:
        options = _plain(values["args"])
        groups = {"model": options, "task": options, "criterion": options}
    else:
        options = _plain(values.get("cfg"))
        if not isinstance(options, dict):
            raise CheckpointError(f"{path}: neither args nor cfg holds a configuration: the architecture is not known")
        groups = {name: options.get(name) for name in ("model", "task", "criterion")}
    model, task, criterion = (_resolved(group, options) if isinstance(group, dict) else {} for group in groups.values())
    name = str(model.get("_name") or model.get("arch") or "")
    return FairseqFile(
        path, _family(name, weights), model, task, criterion, weights, _dictionary(path, values.get("task_state"), task)
    )


def _family(name: str, weights: Mapping[str, Tensor]) -> str:
    """By the parameters, since names of architectures changed; by name where those tell nothing."""
    has = {part: any(key.startswith(part) for key in weights) for part in (
        CTC_START, "w2v_encoder.proj.", "vector_quantizer.", "feature_aggregator.", "generator.", "mask_emb",
        "decoder.", "label_embs_concat", "encoder.w2v_model.",
    )}  # fmt: skip
    if is_roberta(weights):
        return "roberta"
    if name.startswith(("hubert", "data2vec", "unispeech", "wavlm")):
        return name
    if has[CTC_START] and has["w2v_encoder.proj."]:
        return "wav2vec2-ctc"
    if has["vector_quantizer."]:
        return "vq-wav2vec"
    if has["feature_aggregator."]:
        return "wav2vec"
    if has["generator."]:
        return "wav2vec-u"
    if has["mask_emb"] and not has["decoder."] and not has["label_embs_concat"]:
        return "wav2vec2"
    return name or "model of an unknown kind"


def _wav2vec2(file: FairseqFile) -> Checkpoint:
    """Pre-trained wav2vec 2.0 and XLSR."""
    weights = file.criterion.get("loss_weights") or [0.1, 0.0]
    config = wav2vec2_config(file.model, [float(weight) for weight in weights], bool(file.task.get("normalize", False)))
    if "quantizer.vars" not in file.weights:
        encoder = {n: v for n, v in file.weights.items() if not n.startswith(PRETRAINING_ONLY)}
        return Checkpoint("encoder", to_dict(config.encoder), wav2vec2_weights(encoder, config))
    return Checkpoint("wav2vec2", to_dict(config), wav2vec2_weights(file.weights, config))


def _wav2vec2_ctc(file: FairseqFile) -> Checkpoint:
    """wav2vec 2.0 fine-tuned with CTC: the architecture is that of the pre-training configuration inside."""
    inner = file.model.get("w2v_args")
    if not isinstance(inner, dict):
        raise CheckpointError("the pre-training configuration (w2v_args) is missing, so the architecture is not known")
    architecture = inner.get("model") if isinstance(inner.get("model"), dict) else inner
    assert isinstance(architecture, dict)
    normalize = bool(file.task.get("normalize", file.model.get("normalize", False)))
    config = wav2vec2_config(architecture, [0.1], normalize)
    weights = {
        name.removeprefix(CTC_START): value
        for name, value in file.weights.items()
        if name.startswith(CTC_START) and not name.removeprefix(CTC_START).startswith(PRETRAINING_ONLY)
    }
    ours = wav2vec2_weights(weights, config)
    rows = len(file.weights["w2v_encoder.proj.weight"])
    symbols = file.dictionary
    if symbols is None and rows == len(LETTERS):
        symbols = list(LETTERS)
        file.notes.append("no dictionary: its 32 outputs are taken for the letters of fairseq's English models")
    if symbols is None:
        raise CheckpointError(f"no dictionary in the file or beside it (dict.ltr.txt) for its {rows} outputs")
    if len(symbols) != rows:
        raise CheckpointError(
            f"the dictionary has {len(symbols)} symbols, the output layer {rows}: not the one that belongs to it"
        )
    phones = sum(len(symbol) > 1 for symbol in symbols[4:] if not symbol.startswith("madeupword")) > len(symbols) / 4
    alphabet, order = imported_alphabet(symbols, 0, "|", "phonemes" if phones else "characters", final_boundary=True)
    ours["output.weight"] = reordered(file.weights["w2v_encoder.proj.weight"], order, 0.0)
    ours["output.bias"] = reordered(file.weights["w2v_encoder.proj.bias"], order, NEVER)
    ctc = CTCConfig(config.encoder, len(alphabet), float(file.model.get("final_dropout", 0.0)))
    return Checkpoint("ctc", to_dict(ctc), ours, state={"alphabet": alphabet.to_dict()})


def _wav2vec(file: FairseqFile) -> Checkpoint:
    """wav2vec (2019), base and large."""
    infonce = bool(file.criterion.get("infonce", False))
    config = wav2vec_config(file.model, infonce, bool(file.task.get("normalize", False)))
    if file.model.get("sample_distance"):
        file.notes.append("sample_distance is not kept: going on with it, distractors come from the whole utterance")
    return Checkpoint("wav2vec", to_dict(config), wav2vec_weights(file.weights))


def _wav2vec_u(file: FairseqFile) -> Checkpoint:
    """wav2vec-U and 2.0: generator and discriminator as one member; phones are the dictionary without its specials."""
    symbols = file.weights["generator.proj.1.weight"].shape[0]
    config = wav2vec_u_config(file.model, symbols, file.weights)
    state: dict[str, Any] = {}
    if file.dictionary is None:
        file.notes.append(f"no dictionary in the file or beside it (dict.phn.txt, dict.txt) for its {symbols} symbols")
    elif len(file.dictionary) != symbols:
        raise CheckpointError(f"the dictionary has {len(file.dictionary)} symbols, the generator {symbols}")
    else:
        state = {"phones": file.dictionary[len(SPECIALS) :], "silence": SILENCE}
    return Checkpoint("wav2vec-u", to_dict(config), wav2vec_u_weights(file.weights, config), state=state)


def _vq_wav2vec(file: FairseqFile) -> Checkpoint:
    """vq-wav2vec, with Gumbel softmax or k-means."""
    loss_weights = [float(weight) for weight in file.criterion.get("loss_weights") or ()]
    infonce, normalize = bool(file.criterion.get("infonce", False)), bool(file.task.get("normalize", False))
    config = vq_wav2vec_config(file.model, loss_weights, infonce, normalize)
    return Checkpoint("vq-wav2vec", to_dict(config), vq_wav2vec_weights(file.weights, config))


def _roberta(file: FairseqFile) -> Checkpoint:
    """BERT over the codes of a vq-wav2vec model, whose own `.pt` file must lie in the same folder, and dict.txt."""
    folder = file.path.parent
    symbols = _symbols(folder / "dict.txt")
    if symbols is None:
        raise CheckpointError("no dict.txt beside it, which says what combination of codes each token is")
    config = code_bert_config(file.model, file.weights)
    weights, vocabulary = code_bert_weights(file.weights, symbols[len(SPECIALS) :])
    bert = Checkpoint(code_bert.KIND, to_dict(config), weights, state={"vocabulary": vocabulary.names()})
    found = [read for path in sorted(folder.glob("*.pt")) if (read := _coder_file(path)) is not None]
    if len(found) != 1:
        names = ", ".join(one.path.name for one in found) or "none"
        raise CheckpointError(
            "BERT over codes needs the vq-wav2vec model that its codes come from (vq-wav2vec_kmeans.pt for "
            f"bert_kmeans.pt): put that one, and no other, into the same folder; found there: {names}"
        )
    codes = _vq_wav2vec(found[0])
    shape = codes.config["encoder"]["quantizer"]
    code_bert.check_fit(vocabulary, shape["groups"], shape["entries"], file.path.name)
    file.notes.append(f"its codes are made by {found[0].path.name}, which lies beside it")
    return code_bert.joined(bert, codes)


def _coder_file(path: Path) -> FairseqFile | None:
    """A `.pt` file if it is one of vq-wav2vec."""
    try:
        file = open_fairseq(path)
    except CheckpointError:
        return None
    return file if file.family == "vq-wav2vec" else None


FAMILIES: dict[str, Callable[[FairseqFile], Checkpoint]] = {
    "wav2vec2": _wav2vec2,
    "wav2vec2-ctc": _wav2vec2_ctc,
    "wav2vec": _wav2vec,
    "wav2vec-u": _wav2vec_u,
    "vq-wav2vec": _vq_wav2vec,
    "roberta": _roberta,
}
"""The models that are read, each by one function."""


def _dictionary(path: Path, task_state: Any, task: Mapping[str, Any]) -> list[str] | None:
    """Symbols by id: the pickled dictionary, or a dict.*.txt beside the file."""
    if isinstance(task_state, dict):
        found = task_state.get("target_dictionary")
        if isinstance(found, Inert) and isinstance(found.state, dict) and isinstance(found.state.get("symbols"), list):
            return [str(symbol) for symbol in found.state["symbols"]]
    names = [f"dict.{task.get('labels') or 'ltr'}.txt"]
    if "text_data" in task:  # wav2vec-U reads the dictionary of its text
        names += ["dict.phn.txt", "dict.txt"]
    place = next((path.parent / name for name in names if (path.parent / name).is_file()), path.parent / names[0])
    return _symbols(place)


def _symbols(place: Path) -> list[str] | None:
    """The symbols of a dictionary file, after the special ones; None where there is no such file."""
    if not place.is_file():
        return None
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{place}: cannot be read ({error})") from error
    return [*SPECIALS, *(line.rsplit(" ", 1)[0] for line in lines if line.strip())]


def _plain(value: Any) -> Any:
    """Stand-ins of configuration classes as the mappings and lists that they hold."""
    if isinstance(value, Inert):
        state = value.state
        if isinstance(state, dict):
            for key in ("_content", "_val"):  # omegaconf: containers and leaves
                if key in state:
                    return _plain(state[key])
            return _plain(state)  # a namespace or a configuration class
        return _plain(value.arguments[0]) if value.arguments else None  # an enumeration's value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _resolved(value: Any, root: Mapping[str, Any], depth: int = 0) -> Any:
    """Omegaconf's references, "${task.normalize}", replaced by what they point at."""
    if isinstance(value, dict):
        return {key: _resolved(item, root, depth) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, root, depth) for item in value]
    if isinstance(value, str) and depth < 5 and (reference := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        target: Any = root
        for part in reference[1].split("."):
            target = target.get(part) if isinstance(target, Mapping) else None
        return _resolved(target, root, depth + 1)
    return value
