"""Loading golden cases, and comparing within the tolerance that each case states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from conftest import COPY, golden_folder
from safetensors.torch import load_file
from torch import Tensor


class Case:
    """One folder of golden numbers: `info` from case.json, tensors by name, weights where there are any."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, Any] = json.loads((folder / "case.json").read_text())

    def __str__(self) -> str:
        return self.folder.name

    @property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / "case.safetensors")

    @property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.folder / "weights.safetensors")

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def get(self, name: str) -> Tensor | None:
        return self.tensors.get(name)

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}

    def close(self, ours: Tensor, name: str) -> None:
        self.near(ours, self[name], name)

    def near(self, ours: Tensor, theirs: Tensor, name: str) -> None:
        """Largest difference over largest value, over finite entries; infinities must coincide."""
        assert ours.shape == theirs.shape, name
        finite = torch.isfinite(theirs)
        assert torch.equal(torch.isfinite(ours), finite), f"{name}: infinities differ"
        error = (ours - theirs)[finite].abs().max() / theirs[finite].abs().max()
        assert error <= self.info["tolerance"]["forward_max_abs_error_over_max_abs"], f"{name}: {error:.2e}"

    def close_loss(self, ours: Tensor, name: str, relative: float | None = None) -> None:
        theirs = self[name]
        relative = relative or self.info["tolerance"]["loss_relative"]
        assert abs(float(ours.detach()) - float(theirs)) <= relative * abs(float(theirs)), f"{name}: {ours} {theirs}"

    def close_gradients(self, ours: dict[str, Tensor | None], theirs: dict[str, Tensor]) -> None:
        largest = max(float(value.abs().max()) for value in theirs.values())
        for name, value in theirs.items():
            mine = ours[name]
            assert mine is not None, name
            error = (mine - value).abs().max()
            allowed = self.info["tolerance"]["grad_max_abs_error_over_max_abs"] * value.abs().max() + 1e-6 * largest
            assert error <= allowed, f"gradient of {name}: {error:.2e} over {allowed:.2e}"


def cases(item: str) -> list[Case]:
    """The cases about one thing, found by what their case.json says they are; the small copy here lacks some."""
    found = [Case(path.parent) for path in sorted(golden_folder().glob("*/case.json"))]
    chosen = [case for case in found if str(case.info.get("item", "")).startswith(item)]
    assert chosen or golden_folder() == COPY, f"no golden case about {item!r} in {golden_folder()}"
    return chosen
