"""The context network: position embedding by convolution, then Transformer blocks (wav2vec 2.0 section 2), or Conformer
blocks without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.errors import ConfigError
from firstwords.nn.adapters import Adapter, LowRank
from firstwords.nn.attention import attention
from firstwords.nn.conformer import ConformerBlock, ConformerConfig
from firstwords.nn.dropout import dropout
from firstwords.nn.lengths import length_mask
from firstwords.nn.position_convolution import PositionConvolution
from firstwords.nn.relative_positions import PositionGate, RelativePositions


@dataclass(frozen=True)
class TransformerConfig:
    """Transformer over latents."""

    layers: int = 12
    """Blocks. Source: BASE."""
    dim: int = 768
    """Width D of the context representations. Source: BASE."""
    feed_forward_dim: int = 3072
    """Width inside the feed-forward part. Source: BASE."""
    heads: int = 12
    """Attention heads: 12 in the released BASE model (the paper prints 8)."""
    norm_first: bool = False
    """Pre-norm with a final layer norm (LV-60k, XLSR) instead of post-norm (BASE, LARGE LS-960)."""
    position_kernel: int = 128
    """Frames that the position convolution sees. Source: wav2vec 2.0 section 4.2."""
    position_groups: int = 16
    """Groups of the position convolution. Source: wav2vec 2.0 section 4.2."""
    dropout: float = 0.1
    """After the position embedding, attention and feed-forward. Source: BASE pre-training."""
    attention_dropout: float = 0.1
    """On attention probabilities (slow on a CPU). Source: BASE pre-training."""
    activation_dropout: float = 0.0
    """Inside the feed-forward part. Source: BASE pre-training."""
    layerdrop: float = 0.05
    """Probability that an update leaves a block out. Source: BASE pre-training."""
    relative_buckets: int = 0
    """Buckets of WavLM's gated relative position bias (320 in the released models); 0 for none."""
    relative_distance: int = 800
    """Frames beyond which that bias tells distances apart no more. Source: WavLM."""
    adapter_dim: int = 0
    """Width of a bottleneck adapter after each block, as in Massively Multilingual Speech (16); 0 for none."""
    low_rank: int = 0
    """Rank of a trained change of query and value projections (LoRA); 0 for none."""
    block: Literal["transformer", "conformer"] = "transformer"
    """"conformer": attention and convolution, norms first, a final norm, no position convolution."""
    conformer: ConformerConfig = field(default_factory=ConformerConfig)
    """Conformer blocks, where `block` says so."""

    @property
    def final_norm(self) -> bool:
        """Whether the norm comes after the blocks, not before them."""
        return self.norm_first or self.block == "conformer"


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each with a residual; (B, T, D) to (B, T, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_inputs = nn.Linear(config.dim, 3 * config.dim)
        self.attention_output = nn.Linear(config.dim, config.dim)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.feed_forward_in = nn.Linear(config.dim, config.feed_forward_dim)
        self.feed_forward_out = nn.Linear(config.feed_forward_dim, config.dim)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.position_gate = PositionGate(config.dim, config.heads) if config.relative_buckets else None
        self.adapter = Adapter(config.dim, config.adapter_dim) if config.adapter_dim else None
        self.low_rank = LowRank(config.dim, config.low_rank) if config.low_rank else None
        for linear in (self.attention_inputs, self.attention_output, self.feed_forward_in, self.feed_forward_out):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, attend: Tensor | None, positions: Tensor | None = None) -> Tensor:
        """`attend` (B, 1, 1, T) is True at frames that may be looked at; None means all. `positions`: (H, T, T)."""
        if self.config.norm_first:
            x = x + self._attention(self.attention_norm(x), attend, positions)
            x = x + self._feed_forward(self.feed_forward_norm(x))
        else:
            x = self.attention_norm(x + self._attention(x, attend, positions))
            x = self.feed_forward_norm(x + self._feed_forward(x))
        return x if self.adapter is None else self.adapter(x)

    def _attention(self, x: Tensor, attend: Tensor | None, positions: Tensor | None) -> Tensor:
        batch, frames, dim = x.shape
        if self.position_gate is not None and positions is not None:
            attend = self.position_gate(x, positions, attend)
        projected = self.attention_inputs(x)
        if self.low_rank is not None:
            projected = projected + self.low_rank(x)
        heads = projected.view(batch, frames, 3, self.config.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        dropped = self.config.attention_dropout if self.training else 0.0
        mixed = attention(query, key, value, attend, dropped)
        return self._dropped(self.attention_output(mixed.transpose(1, 2).reshape(batch, frames, dim)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = dropout(F.gelu(self.feed_forward_in(x)), self.config.activation_dropout, self.training)
        return self._dropped(self.feed_forward_out(inner))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)


class Transformer(nn.Module):
    """Position embedding and blocks; (B, T, D) to (B, T, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        conformer = config.block == "conformer"
        groups = (config.heads, 1 if conformer else config.position_groups)
        if min(groups) < 1 or config.dim < 1 or any(config.dim % parts for parts in groups):
            raise ConfigError(
                f"transformer: dim {config.dim} must be a multiple of heads ({config.heads}) "
                f"and of position_groups ({config.position_groups})"
            )
        if config.layers < 0:
            raise ConfigError(f"transformer: layers must not be below 0, found {config.layers}")
        if config.relative_buckets and (
            config.relative_buckets < 4 or config.relative_distance <= config.relative_buckets // 4
        ):
            raise ConfigError(
                f"transformer: relative_buckets must be 0 or at least 4, and relative_distance above a quarter of it; "
                f"found {config.relative_buckets} and {config.relative_distance}"
            )
        if conformer:
            config.conformer.check(config.dim, config.heads)
            if config.relative_buckets:
                raise ConfigError("transformer: relative_buckets are for Transformer blocks; see conformer.positions")
        check_shares("transformer", config, "dropout", "attention_dropout", "activation_dropout", "layerdrop")
        self.config = config
        self.position: nn.Module | None = (
            None if conformer else PositionConvolution(config.dim, config.position_kernel, config.position_groups)
        )
        self.norm = nn.LayerNorm(config.dim)
        block = ConformerBlock if conformer else TransformerBlock
        self.blocks = nn.ModuleList(block(config) for _ in range(config.layers))
        self.relative_positions = (
            RelativePositions(config.heads, config.relative_buckets, config.relative_distance)
            if config.relative_buckets
            else None
        )

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        layer: int | None = None,
        kept: Sequence[bool] | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Context representations (B, T, D).

        Args:
            x: projected latents (B, T, D).
            lengths: valid frames (B,); those beyond change nothing.
            layer: stop after so many blocks and return their sum with no final norm; 0 is the blocks' input.
            kept: LayerDrop's choice, one bool a block; None draws it when training.
            states: gets the input of the first block appended, then the output of each, all (B, T, D), with no final
                norm: what `layer` would return for 0, 1, and so on.
        """
        attend = None
        if not bool((lengths == x.shape[1]).all()):
            valid = length_mask(lengths, x.shape[1])
            x = x * valid[:, :, None]
            attend = valid[:, None, None, :]
        if self.position is not None:
            x = x + self.position(x)
        if not self.config.final_norm:
            x = self.norm(x)
        x = dropout(x, self.config.dropout, self.training)
        if kept is None and self.training and self.config.layerdrop:
            kept = (torch.rand(len(self.blocks)) > self.config.layerdrop).tolist()
        positions = self.positions(x)
        if states is not None:
            states.append(x)
        for number, block in enumerate(self.blocks[:layer]):
            if kept is None or kept[number]:
                x = block(x, attend, positions)
            if states is not None:
                states.append(x)
        if self.config.final_norm and layer is None:
            x = self.norm(x)
        return x

    def positions(self, x: Tensor) -> Tensor | None:
        """What all blocks share about the places of the frames of x (B, T, D): a bias (H, T, T) or a table."""
        if self.config.block == "conformer":
            return self.config.conformer.table(x, self.config.heads)
        return None if self.relative_positions is None else self.relative_positions(x.shape[1])


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compiles every block of a Transformer inside `model` in place (torch.compile); parameters keep their names.

    Blocks share one compilation for each length of crop: recordings cut to few lengths pay, whole ones do not.
    """
    for module in model.modules():
        if isinstance(module, TransformerBlock | ConformerBlock):
            module.compile(backend=backend)
