"""Reading what `torch.save` wrote, without running anything in it.

A pickle is a program: it names functions and calls them. Here every name is answered by this module: tensors and plain
containers are built, the classes in which fairseq keeps its configuration become inert stand-ins that only hold what
was stored, and every other name is refused before it can be called.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import CheckpointError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First value of files that torch wrote before version 1.6."""

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip

INERT_PACKAGES = ("fairseq", "omegaconf", "hydra", "examples")
"""Packages whose classes appear in checkpoints as configuration, meters or dictionaries."""
INERT_NAMES = frozenset(
    {"argparse.Namespace", "typing.Any", "typing.Union", "typing.Optional", "pathlib.Path", "pathlib.PosixPath",
     "pathlib.WindowsPath", "torch.nn.parameter.UninitializedParameter"}
)  # fmt: skip


class Inert:
    """Stands for an object of a foreign class: it keeps what was stored and does nothing.

    `arguments` are what its constructor would have got, `state` is what its `__dict__` would have been.
    """

    path = ""
    """Full name of the foreign class."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = {}
        self.items: list[Any] = []

    def __new__(cls, *arguments: Any) -> Inert:
        self = super().__new__(cls)
        Inert.__init__(self, *arguments)  # a pickle may skip the constructor
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """As the pickles of list-like classes ask."""
        self.items.append(value)

    def extend(self, values: Any) -> None:
        """As the pickles of list-like classes ask."""
        self.items.extend(values)


def read_pickled(path: Path) -> Any:
    """The object in a file of `torch.save` (both layouts), built of tensors, plain containers and `Inert` objects.

    Raises:
        CheckpointError: missing, cut short, another format, or naming anything that could run code.
    """
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(file)
            file.seek(0)
            return _read_legacy(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except _RefusedError as error:
        raise CheckpointError(
            f"{path}: refused: the pickle asks for {error}, which could run code on this machine; "
            "only tensors, plain containers and fairseq's configuration are read"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # whatever broken bytes make of the pickle machine
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {error}); "
            "it may be cut short or another format"
        ) from error


class _RefusedError(Exception):
    """A global name that is not read."""


class _Unpickler(pickle.Unpickler):
    """Answers every global name from the tables of this module."""

    def __init__(self, file: IO[bytes], storage: Callable[[torch.dtype, str, int], Tensor]) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote bytes
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in _BUILDERS:
            return _BUILDERS[path]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if path in INERT_NAMES or module.split(".")[0] in INERT_PACKAGES:
            return type(name, (Inert,), {"path": path})
        raise _RefusedError(path)

    def persistent_load(self, identity: Any) -> Tensor:
        kind, dtype, key, _, count, *view = identity
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(part is not None for part in view):
            raise CheckpointError(f"stores tensors in a way that is not known here ({kind!r}, {dtype!r})")
        return self._storage(dtype, str(key), int(count))


def _read_zip(file: IO[bytes]) -> Any:
    """torch 1.6 and later: a zip file with one pickle, and one member for each storage."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.split("/", 1)[-1] == "data.pkl"]
        if not pickles:
            shown = ", ".join(names[:3])
            raise CheckpointError(f"a zip file, but not one of torch.save (it holds {shown or 'nothing'})")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder").strip() != b"little":
            raise CheckpointError("written on a big-endian machine, which is not read here")
        storages: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in storages:
                storages[key] = _tensor(archive.read(f"{folder}data/{key}"), dtype, count)
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_legacy(file: IO[bytes]) -> Any:
    """torch before 1.6: pickles of a magic number, a version, facts of the machine, the object; then the storages."""

    def nothing(dtype: torch.dtype, key: str, count: int) -> Tensor:
        raise CheckpointError("tensors where torch.save writes none")

    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if key not in storages:
            storages[key] = torch.empty(count, dtype=dtype)
        return storages[key]

    if _Unpickler(file, nothing).load() != LEGACY_MAGIC:
        raise CheckpointError("a pickle, but not one of torch.save")
    _Unpickler(file, nothing).load()
    if not _Unpickler(file, nothing).load().get("little_endian", True):
        raise CheckpointError("written on a big-endian machine, which is not read here")
    result = _Unpickler(file, storage).load()
    for key in _Unpickler(file, nothing).load():
        (count,) = struct.unpack("<q", file.read(8))
        values = storages[str(key)]
        if count != values.numel():
            raise CheckpointError(f"storage {key} has {count} values, {values.numel()} were announced")
        values.copy_(_tensor(file.read(count * values.element_size()), values.dtype, count))
    return result


def _tensor(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    size = torch.empty(0, dtype=dtype).element_size()
    if len(data) < count * size:
        raise CheckpointError(f"cut short: {len(data)} bytes where {count * size} were announced")
    return torch.frombuffer(bytearray(data), dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise CheckpointError("a tensor without a storage")
    return storage.as_strided(tuple(size), tuple(stride), offset)  # torch refuses what lies beyond the storage


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 spells bytes."""
    if encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise _RefusedError(f"_codecs.encode with encoding {encoding!r}")
    return text.encode(encoding)


def _default_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _device(*parts: Any) -> str:
    return ":".join(map(str, parts))


class _NumpyType(Inert):
    """numpy.dtype by its code ("f8"); only plain numbers are built from it."""

    def build(self, data: bytes) -> np.ndarray:
        code = str(self.arguments[0]) if self.arguments else ""
        if code.lstrip("<>|=")[:1] not in tuple("biufc") and code != "bool":
            raise CheckpointError(f"a numpy array of {code!r}")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        kind = np.dtype(code).newbyteorder(">" if order == ">" else "<")
        return np.frombuffer(data, kind)


class _NumpyArray(Inert):
    """An array as plain numbers are needed nowhere; its bytes stay in `state`."""


def _numpy_scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, _NumpyType):
        raise CheckpointError("a numpy value without a type")
    data = data.encode("latin1") if isinstance(data, str) else data
    return kind.build(data)[0].item()


def _numpy_array(*_: Any) -> _NumpyArray:
    return _NumpyArray()


_BUILDERS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _default_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": tuple,
    "torch.device": _device,
    "_codecs.encode": _encoded,
    "numpy.dtype": _NumpyType,
    "numpy.ndarray": _NumpyArray,
} | {
    f"numpy.{core}.multiarray.{name}": function
    for core in ("core", "_core")
    for name, function in (("scalar", _numpy_scalar), ("_reconstruct", _numpy_array))
} | {
    f"{module}.{kind.__name__}": kind
    for module in ("builtins", "__builtin__")
    for kind in (dict, list, tuple, set, frozenset, int, float, complex, bool, str, bytes, bytearray)
} | {"__builtin__.long": int, "__builtin__.unicode": str}  # fmt: skip
