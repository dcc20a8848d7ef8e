"""Principal components: those of a singular value decomposition, whatever the blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.errors import CheckpointError, ConfigError
from firstwords.nn.pca import PCA, fit_pca


def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(300, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 50


def test_equals_a_singular_value_decomposition() -> None:
    x = frames()
    pca = fit_pca([x[:1], x[1:100], x[100:]], 4)
    centred = x.double().numpy() - x.double().numpy().mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(pca.components.double().numpy() @ directions[:4].T), np.eye(4), atol=1e-5)
    np.testing.assert_allclose(pca.shares.numpy(), (values**2 / (values**2).sum())[:4], rtol=1e-5)
    assert bool((pca.components.gather(1, pca.components.abs().argmax(1, keepdim=True)) > 0).all())


def test_coordinates_are_centred_uncorrelated_and_not_whitened() -> None:
    x = frames()
    y = fit_pca(x, 6).apply(x.view(3, 100, 6)).flatten(0, 1)
    covariance = torch.cov(y.T)
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-3, rtol=0)
    torch.testing.assert_close(y.mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(covariance.trace(), torch.cov(x.T).trace())  # no variance lost or scaled


def test_is_read_back_as_it_was(tmp_path: Path) -> None:
    pca = fit_pca(frames(), 3)
    pca.save(tmp_path / "pca.safetensors")
    assert torch.equal(PCA.load(tmp_path / "pca.safetensors").apply(frames()), pca.apply(frames()))
    (tmp_path / "pca.safetensors").write_bytes((tmp_path / "pca.safetensors").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cut short"):
        PCA.load(tmp_path / "pca.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        PCA.load(tmp_path / "none.safetensors")


def test_too_many_components_are_told() -> None:
    with pytest.raises(ConfigError, match="7 of them, but features have 6 dimensions"):
        fit_pca(frames(), 7)
