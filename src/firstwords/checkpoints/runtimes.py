"""Models for other runtimes: ONNX and OpenVINO, exported with any batch and length, and run again."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstwords.checkpoints.plain import PlainClassifier, PlainNetwork
from firstwords.errors import CheckpointError, MissingExtraError

ONNX = "model.onnx"
ONNX_INT8 = "model.int8.onnx"
OPENVINO = "model.xml"
PROTOBUF_BYTES = 1_800_000_000
"""Weights beyond this go into a file of their own: one ONNX file holds 2 GB at the most."""

Network = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""Waveforms (B, samples) as recorded and lengths (B,) to outputs (B, T, V), valid frames (B,), and what else it has."""


def write_onnx(network: PlainNetwork | PlainClassifier, folder: Path) -> Path:
    """Writes model.onnx, with inputs "waveforms" (B, samples) and "lengths" (B,), and the network's outputs by name.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        CheckpointError: the disk is full.
    """
    for package in ("onnx", "onnxscript"):
        _require(package, "onnx", "writing ONNX")
    names = {"input_names": ["waveforms", "lengths"], "output_names": list(network.outputs)}
    with _quiet():
        program: Any = torch.onnx.export(_exported(network), **names, dynamo=True, verbose=False)  # type: ignore[arg-type]
    path = folder / ONNX
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    with _told(path):
        program.save(str(path), external_data=size > PROTOBUF_BYTES)
    return path


def write_openvino(network: PlainNetwork | PlainClassifier, folder: Path) -> Path:
    """Writes model.xml and model.bin, in float32. Raises MissingExtraError without openvino."""
    openvino = _require("openvino", "openvino", "writing OpenVINO")
    path = folder / OPENVINO
    with _quiet():
        model = openvino.convert_model(_exported(network))
    for name, port in zip(("waveforms", "lengths"), model.inputs, strict=True):
        port.get_tensor().set_names({name})
    for name, port in zip(network.outputs, model.outputs, strict=True):
        port.get_tensor().set_names({name})
    with _told(path):
        openvino.save_model(model, path, compress_to_fp16=False)
    return path


def write_int8(path: Path) -> Path:
    """Beside an ONNX file the same with 8-bit weights in matrix products; activations are scaled as they come."""
    quantization = _require("onnxruntime.quantization", "onnx", "8-bit ONNX")
    small = path.with_name(ONNX_INT8)
    with _quiet(), _told(small):
        quantization.quantize_dynamic(
            path, small, op_types_to_quantize=["MatMul", "Gemm"], weight_type=quantization.QuantType.QInt8
        )
    return small


def open_onnx(path: Path) -> Network:
    """Runs an ONNX file on the CPU. Raises MissingExtraError without onnxruntime."""
    runtime = _require("onnxruntime", "onnx", "running ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen classes for it
        raise CheckpointError(f"{path}: cannot be run ({error})") from error

    def run(waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        given = {"waveforms": waveforms.float().numpy(), "lengths": lengths.numpy().astype(np.int64)}
        return tuple(torch.from_numpy(value) for value in session.run(None, given))

    return run


def open_openvino(path: Path) -> Network:
    """Runs an OpenVINO model on the CPU in float32. Raises MissingExtraError without openvino."""
    openvino = _require("openvino", "openvino", "running OpenVINO")
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        found = compiled([waveforms.float().numpy(), lengths.numpy().astype(np.int64)])
        return tuple(torch.from_numpy(np.array(found[number])) for number in range(len(compiled.outputs)))

    return run


def fewest_samples(network: PlainNetwork | PlainClassifier) -> int:
    """How wide a batch must be at least; what is shorter is padded with zeros."""
    return 2 * network.shortest


def _exported(network: PlainNetwork | PlainClassifier) -> Any:
    """The graph of the network, for any number of utterances of any length."""
    fewest = fewest_samples(network)
    batch, samples = torch.export.Dim("batch"), torch.export.Dim("samples", min=fewest)
    size = max(16_000, 2 * fewest)
    example = (torch.zeros(2, size), torch.tensor([size, 3 * size // 4]))
    with _quiet():
        return torch.export.export(network.eval(), example, dynamic_shapes=({0: batch, 1: samples}, {0: batch}))


def _require(package: str, extra: str, purpose: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(purpose, package.split(".")[0], extra) from error


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); free some space") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "root", "openvino")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
