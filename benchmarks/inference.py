"""Emissions of a CTC recogniser: Firstwords against Hugging Face, OpenVINO and ONNX Runtime. Random weights.

    python benchmarks/inference.py --sizes base --lengths 15 60 mixed --out results.json

"mixed" is a batch of eight recordings of 2 to 24 s. A contender that cannot run says so in its row.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from measure import Contender, Step, device, dtype, interleave, processor, save, show, to_json
from sizes import MIXED, forward_flop, hugging_face, pretraining

from firstwords.audio import SAMPLE_RATE
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.inference import for_inference

LABELS = 32


@dataclass
class Settings:
    """Which recordings, which contenders."""

    sizes: tuple[str, ...] = ("base",)
    """base, large (the shape of LV-60k)."""
    lengths: tuple[str, ...] = ("15", "60", "mixed")
    """Seconds of a recording, or "mixed"."""
    bfloat16: bool = True
    """Time the bfloat16 forms too."""
    peers: tuple[str, ...] = ("transformers", "openvino", "onnxruntime")
    """Whom to compare with."""
    rounds: int = 5
    """Measured rounds."""
    warmup: int = 2
    """Rounds before them."""
    threads: int = 1
    """Threads of each contender."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    results = []
    for size in settings.sizes:
        for length in settings.lengths:
            seconds = MIXED if length == "mixed" else (float(length),)
            encoder = pretraining(size, 0.0).model.encoder
            flop = sum(sum(forward_flop(encoder, round(one * SAMPLE_RATE))) for one in seconds)
            contenders = [
                Contender(name, prepare, (size, seconds, *more), flop)
                for name, prepare, *more in candidates(settings.peers, settings.bfloat16)
            ]
            timings = interleave(contenders, settings.rounds, settings.threads, warmup=settings.warmup)
            show(f"{size}, {length} s, {settings.threads} threads, {processor()}", timings, "firstwords float32")
            facts = {"size": size, "seconds": list(seconds), "threads": settings.threads}
            results.append(to_json(timings, "firstwords float32", **facts))
            save(settings.out, results)


def candidates(peers: tuple[str, ...], half: bool) -> list[tuple[Any, ...]]:
    """Name, function, and what it takes besides size and lengths."""
    precisions = ("float32", "bfloat16") if half else ("float32",)
    found: list[tuple[Any, ...]] = [(f"firstwords {precision}", ours, precision) for precision in precisions]
    if "transformers" in peers:
        for attention in ("eager", "sdpa"):
            found += [(f"transformers {attention} {p}", hugging, attention, p) for p in precisions]
    if "openvino" in peers:
        found += [(f"openvino {precision}", openvino, precision) for precision in precisions]
    if "onnxruntime" in peers:
        found.append(("onnxruntime float32", onnxruntime))
    return found


def batch(seconds: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, padded with zeros, and its lengths."""
    lengths = torch.tensor([round(one * SAMPLE_RATE) for one in seconds])
    audio = 0.1 * torch.randn(len(seconds), int(lengths.max()))
    return audio * (torch.arange(audio.shape[1]) < lengths[:, None]), lengths


def ours(size: str, seconds: tuple[float, ...], precision: Literal["float32", "bfloat16"]) -> Step:
    """As the recogniser does it: on a CPU recordings of different length go alone, since padding only costs there."""
    model = for_inference(CTCModel(CTCConfig(pretraining(size, 0.0).model.encoder, LABELS)), precision, str(device()))
    audio, lengths = (part.to(device()) for part in batch(seconds))
    batches = [(audio, lengths)]
    if device().type == "cpu":
        batches = [(row[None, : int(size)], size[None]) for row, size in zip(audio, lengths, strict=True)]

    @torch.inference_mode()
    def step() -> None:
        for waveforms, sizes in batches:
            model(waveforms, sizes)

    return step


def hugging(size: str, seconds: tuple[float, ...], attention: str, precision: str) -> Step:
    """Weights in the precision asked for, which is their fastest form."""
    model = hugging_model(size, attention).to(device(), dtype(precision))
    audio, lengths = (part.to(device()) for part in batch(seconds))
    audio = audio.to(dtype(precision))
    mask = None
    if len(seconds) > 1:
        mask = (torch.arange(audio.shape[1], device=device()) < lengths[:, None]).long()

    @torch.inference_mode()
    def step() -> None:
        model(audio, attention_mask=mask)

    return step


def openvino(size: str, seconds: tuple[float, ...], precision: str) -> Step:
    """Converted from the transformers model, with its attention mask where lengths are mixed."""
    import openvino as ov

    audio, lengths = batch(seconds)
    example: dict[str, torch.Tensor] = {"input_values": audio}
    if len(seconds) > 1:
        example["attention_mask"] = (torch.arange(audio.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        converted = ov.convert_model(hugging_model(size, "sdpa"), example_input=example)
    hints = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]}
    compiled = ov.compile_model(converted, "CPU", hints | {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    arrays = [value.numpy() for value in example.values()]

    def step() -> None:
        compiled(arrays)

    return step


def onnxruntime(size: str, seconds: tuple[float, ...]) -> Step:
    """Exported from the transformers model."""
    import onnxruntime as ort

    audio, lengths = batch(seconds)
    values: tuple[torch.Tensor, ...] = (audio,)
    names = ["input_values"]
    if len(seconds) > 1:
        values += ((torch.arange(audio.shape[1]) < lengths[:, None]).long(),)
        names.append("attention_mask")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(hugging_model(size, "eager"), values, path, input_names=names, dynamo=False)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {name: value.numpy() for name, value in zip(names, values, strict=True)}

    def step() -> None:
        session.run(None, feeds)

    return step


def hugging_model(size: str, attention: str) -> Any:
    from transformers import Wav2Vec2ForCTC

    config = hugging_face(size, 0.0, vocab_size=LABELS, attn_implementation=attention)
    return Wav2Vec2ForCTC(config).eval()


if __name__ == "__main__":
    main()
