"""Product quantisation with k-means: the nearest entry of each codebook (vq-wav2vec section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError
from firstwords.nn.group_norm import group_norm
from firstwords.nn.quantizer import Quantized, QuantizerConfig, every_codebook, look_up


class KMeansQuantizer(nn.Module):
    """Replaces each part of a frame by the entry of its codebook that is nearest by Euclidean distance.

    A frame is first projected group by group and normalised over the channels of the group and time, which fixes the
    scale at which distances are measured.

    Args:
        config: groups, entries, and whether groups share a codebook; what is about Gumbel softmax is not looked at.
        dim: width of frames and of what they become.
        commitment: weight gamma of the commitment term.
        start: codebooks start N(0, start^2), 0.01 in fairseq; with 0 call `start_from`.
    """

    def __init__(self, config: QuantizerConfig, dim: int, commitment: float = 0.25, start: float = 0.01) -> None:
        super().__init__()
        if min(config.groups, config.entries, dim) < 1:
            raise ConfigError(
                "quantizer: groups, entries and width must be at least 1; "
                f"found {config.groups}, {config.entries}, {dim}"
            )
        if dim % config.groups or config.dim not in (0, dim):
            raise ConfigError(
                f"quantizer: k-means keeps the width of the latents, {dim}, which must be a multiple of groups "
                f"({config.groups}), and dim 0 or the same; found {config.dim}"
            )
        if not min(commitment, start) >= 0:
            raise ConfigError(f"quantizer: commitment and start must not be below 0; found {commitment}, {start}")
        self.config, self.commitment = config, commitment
        width = dim // config.groups
        codebooks = torch.randn(1 if config.shared else config.groups, config.entries, width)
        self.codebooks = nn.Parameter(start * codebooks)
        self.projection = nn.Conv1d(dim, dim, 1, groups=config.groups, bias=False)
        self.norm = nn.GroupNorm(config.groups, dim)
        self._one_group = nn.GroupNorm(1, width, eps=self.norm.eps, affine=False)

    @torch.no_grad()
    def start_from(self, x: Tensor, generator: torch.Generator) -> None:
        """Codebooks become parts of projected frames (N, dim), drawn at random; there should be more than entries."""
        parts = x.unflatten(1, (self.config.groups, -1)).transpose(0, 1)  # (G, N, d)
        parts = parts.flatten(0, 1)[None] if self.config.shared else parts
        for codebook, found in zip(self.codebooks, parts, strict=True):
            chosen = torch.randperm(len(found), generator=generator)[: len(codebook)]
            codebook[: len(chosen)] = found[chosen.to(found.device)]

    def project(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """What is quantised: latents (B, T, dim) projected and normalised, over `lengths` (B,) valid frames."""
        groups = self.config.groups
        weight = self.projection.weight[:, :, 0].unflatten(0, (groups, -1))
        projected = torch.einsum("btgi,goi->bgto", latents.unflatten(2, (groups, -1)), weight)
        normed = group_norm(projected.flatten(0, 1), lengths.repeat_interleave(groups), self._one_group)
        return normed.unflatten(0, (-1, groups)).transpose(1, 2).flatten(2) * self.norm.weight + self.norm.bias

    def forward(self, x: Tensor) -> Quantized:
        """Quantises projected frames (N, dim), in fp32.

        The gradient of the vectors passes to `x` as it is (straight-through) and not to the codebooks, which learn from
        `squares` alone: (entry - frame held)^2 + commitment (frame - entry held)^2.
        """
        x = x.float()
        codes = self.nearest(x)
        entries = look_up(self.codebooks.float(), self.config, codes).flatten(1)
        vectors = entries.detach() + (x - x.detach())
        squares = (entries - x.detach()).square().sum() + self.commitment * (x - entries.detach()).square().sum()
        counts = F.one_hot(codes, self.config.entries).sum(0)
        return Quantized(vectors, codes, None, counts, squares)

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """(N, G) entry nearest to each part of projected frames (N, dim).

        |x - e|^2 = |x|^2 - 2 x e + |e|^2, whose first term is the same for all entries: one product of matrices.
        """
        with torch.autocast(x.device.type, enabled=False):
            parts = x.float().unflatten(1, (self.config.groups, -1))
            books = every_codebook(self.codebooks.float(), self.config)
            distances = books.square().sum(-1) - 2 * torch.einsum("ngd,gvd->ngv", parts, books)
            return distances.argmin(-1)
