"""k-means: finds clusters that are there, agrees with a plain twin, does not depend on how the frames are cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.nn import blocks as blocks_module
from firstwords.nn import kmeans
from firstwords.nn.kmeans import assign, fit_kmeans, nearest, plus_plus


def clouds(
    clusters: int = 6, each: int = 50, dim: int = 5, spread: float = 0.05, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clusters, dim, generator=generator) * 3
    numbers = torch.arange(clusters).repeat(each)
    return centres[numbers] + spread * torch.randn(len(numbers), dim, generator=generator), numbers


def lloyd(frames: np.ndarray, centroids: np.ndarray, iterations: int) -> np.ndarray:
    """The plain twin: every distance at once, one mean after the other, in float64."""
    for _ in range(iterations):
        numbers = ((frames[:, None] - centroids[None]) ** 2).sum(-1).argmin(1)
        centroids = np.stack([frames[numbers == k].mean(0) for k in range(len(centroids))])
    return centroids


class Cut:
    """Blocks of given lengths, again and again."""

    def __init__(self, frames: Tensor, size: int) -> None:
        self.frames, self.size = frames, size

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in self.frames.split(self.size):
            yield part.numpy()


def test_finds_the_clusters_that_are_there() -> None:
    frames, numbers = clouds()
    found = assign(frames, fit_kmeans(frames, 6, restarts=3, seed=1))
    pairs = set(zip(numbers.tolist(), found.tolist(), strict=True))
    assert len(pairs) == 6


def test_equals_the_plain_twin_from_the_same_start() -> None:
    frames = torch.randn(700, 4, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(5)
    chosen = torch.randperm(len(frames), generator=generator).sort().values
    start = plus_plus(frames[chosen], 9, generator)
    wanted = lloyd(frames.double().numpy(), start.double().numpy(), 7)
    np.testing.assert_allclose(fit_kmeans(frames, 9, iterations=7, seed=5).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [1, 17, 64, 1000])
def test_does_not_depend_on_how_the_frames_are_cut(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module.rows, "__defaults__", (64, torch.float32))
    monkeypatch.setattr(kmeans, "DISTANCES", 100)
    frames, _ = clouds(spread=1.0)
    assert torch.equal(fit_kmeans(Cut(frames, size), 7, seed=2), fit_kmeans(frames, 7, seed=2))


def test_memory_mapped_frames_are_read_as_they_are(tmp_path) -> None:
    frames, _ = clouds(spread=1.0)
    np.save(tmp_path / "frames.npy", frames.numpy())
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    assert torch.equal(fit_kmeans(mapped, 4), fit_kmeans(frames, 4))


def test_more_restarts_are_never_worse() -> None:
    frames, _ = clouds(clusters=12, each=20, spread=0.5)

    def inertia(restarts: int) -> float:
        return float(nearest(frames, fit_kmeans(frames, 12, restarts=restarts))[0].sum())

    assert inertia(5) <= inertia(1)


def test_no_cluster_stays_empty() -> None:
    frames = torch.cat([torch.zeros(50, 2), torch.tensor([[1.0, 0], [0, 1], [5, 5]])])
    _, moved = kmeans._pass(frames, torch.tensor([[0.0, 0], [90, 90], [91, 91], [92, 92]]))
    _, numbers = nearest(frames, moved)
    assert len(set(numbers.tolist())) == 4


def test_equal_frames_make_no_trouble() -> None:
    assert torch.equal(fit_kmeans(torch.ones(10, 3), 4), torch.ones(4, 3))


def test_assignment_is_the_nearest_of_any_shape_even_far_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "DISTANCES", 50)
    generator = torch.Generator().manual_seed(0)
    frames, centroids = (
        torch.randn(3, 40, 8, generator=generator) + 1000,
        torch.randn(11, 8, generator=generator) + 1000,
    )
    wanted = torch.cdist(frames.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
    assert torch.equal(assign(frames, centroids), wanted)
    assert assign(frames[:, :0], centroids).shape == (3, 0)


def test_wrong_frames_are_told() -> None:
    with pytest.raises(ConfigError, match="4 clusters need at least as many frames, found 3"):
        fit_kmeans(torch.zeros(3, 2), 4)
    with pytest.raises(ConfigError, match="not numbers"):
        fit_kmeans(torch.full((9, 2), float("nan")), 2)
    with pytest.raises(ConfigError, match=r"\(5, 3\), expected \(frames, 2\)"):
        fit_kmeans([torch.zeros(5, 2), torch.zeros(5, 3)], 2)
    with pytest.raises(TypeError, match="several times"):
        fit_kmeans(iter([torch.zeros(5, 2)]), 2)


def test_faiss_finds_clusters_as_good() -> None:
    pytest.importorskip("faiss")
    frames = torch.randn(900, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        float(nearest(frames, fit_kmeans(frames, 12, restarts=3, backend=backend))[0].sum())  # type: ignore[arg-type]
        for backend in ("torch", "faiss")
    )
    assert ours == pytest.approx(theirs, rel=0.05)
