"""Acoustic models: the published shapes; alone as in a batch; features of layers, of all layers, of log-mel bands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_code_bert import encoder as code_bert
from test_vq_wav2vec import model as vq_wav2vec
from test_wav2vec import config as wav2vec_config
from torch import nn

from firstwords.config import from_dict, to_dict
from firstwords.encoder import Encoder
from firstwords.errors import ConfigError
from firstwords.models.encoders import build_encoder, encoder_kind
from firstwords.models.wav2letter import AcousticConfig, AcousticModel, AcousticNetwork, FeaturesConfig, NetworkConfig
from firstwords.models.wav2vec import Wav2VecEncoder
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Encoder
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.transformer import TransformerConfig
from firstwords.recipes import load_recipe
from firstwords.training.acoustic_config import AcousticRecipe

SMALL = EncoderConfig(
    feature_encoder=FeatureEncoderConfig(channels=(6, 6, 8, 8, 8, 8, 8)),
    transformer=TransformerConfig(
        layers=3, dim=16, feed_forward_dim=32, heads=2, position_kernel=8, position_groups=2, dropout=0.1
    ),
    normalize_waveform=True,
)
NETWORKS = {
    "prelu": NetworkConfig("prelu", (12, 12), (5, 4), 0.3),
    "gated": NetworkConfig("gated", (12, 10, 8), (4, 3, 1), 0.3),
}


def encoder() -> Wav2Vec2Encoder:
    torch.manual_seed(1)
    return Wav2Vec2Encoder(SMALL)


def model(network: str = "gated", on: bool = True, **features: Any) -> AcousticModel:
    kind = dict(zip(("kind", "config"), encoder_kind(encoder()), strict=True)) if on else None
    config = AcousticConfig(FeaturesConfig(**features), NETWORKS[network], 7, "asg", 2.0, kind)
    torch.manual_seed(2)
    return AcousticModel(config, encoder() if on else None)


def sounds() -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [0.1 * torch.randn(samples) for samples in (16_000, 9_000, 4_321)]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("on", "features"),
    [(False, {}), (True, {}), (True, {"layer": 1}), (True, {"weighted": True}), (True, {"normalize": False})],
    ids=str,
)
def test_alone_is_batched(network: str, on: bool, features: dict[str, Any]) -> None:
    made = model(network, on, **features).eval()
    waveforms = sounds()
    lengths = torch.tensor([len(one) for one in waveforms])
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    padded[1, 9_000:] = 7.0  # whatever is there
    together = made(padded, lengths)
    for row, length, waveform in zip(together.logits, together.lengths.tolist(), waveforms, strict=True):
        alone = made(waveform[None])
        assert alone.logits.shape == (1, length, 7) and int(alone.lengths) == length
        torch.testing.assert_close(row[:length], alone.logits[0], rtol=1e-4, atol=1e-5)


def test_features_are_those_of_the_encoder() -> None:
    """A layer, the output and the sum of all, as `Encoder` gives them; as they come, or normalised."""
    plain = Encoder(encoder()).eval()
    waveforms = torch.stack([sounds()[0][:9000], sounds()[1]])
    lengths = torch.full((2,), 9000)
    for layer in (0, 2, None):
        found = model(layer=layer, normalize=False).features(waveforms, lengths)
        torch.testing.assert_close(found[:, :, 0], plain(waveforms, layer=layer))
    states = torch.stack(plain.hidden_states(waveforms)[0], 2)
    torch.testing.assert_close(model(weighted=True, normalize=False).features(waveforms, lengths), states)
    normal = model(weighted=True).features(waveforms, lengths)
    torch.testing.assert_close(normal.mean(1), torch.zeros(2, 4, 16), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.var(1, correction=0), torch.ones(2, 4, 16), rtol=0, atol=1e-2)


def test_only_the_network_learns() -> None:
    """And the weights of layers and the transitions; the encoder has no dropout in training either."""
    made = model(weighted=True).train()
    names = {name.split(".")[0] for name, value in made.named_parameters() if value.requires_grad}
    assert names == {"network", "layer_weights", "transitions"}
    waveforms, lengths = torch.stack([sounds()[0]]), torch.tensor([16_000])
    assert torch.equal(made.features(waveforms, lengths), made.features(waveforms, lengths))
    assert not torch.equal(made(waveforms).logits, made(waveforms).logits)
    found = made(waveforms)
    assert found.transitions is not None
    (found.logits.sum() + found.transitions.sum()).backward()
    assert made.layer_weights is not None and made.layer_weights.grad is not None
    assert made.transitions is not None and torch.equal(made.transitions.detach(), 2 * torch.eye(7))


def test_the_configuration_says_it_all() -> None:
    """Also which encoder it stands on."""
    made = model(layer=1)
    again = AcousticModel(from_dict(AcousticConfig, to_dict(made.config), "test"))
    again.load_state_dict(made.state_dict())
    waveform = sounds()[:1]
    torch.testing.assert_close(again.eval()(waveform[0][None]).logits, made.eval()(waveform[0][None]).logits)
    assert isinstance(build_encoder(*encoder_kind(encoder())), Wav2Vec2Encoder)


OTHERS: dict[str, Any] = {
    "wav2vec": lambda: Wav2VecEncoder(wav2vec_config("large")),
    "vq-wav2vec": lambda: vq_wav2vec("gumbel").encoder,
    "code-bert": code_bert,
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_on_every_method(kind: str, weighted: bool) -> None:
    """Frames and features as `Encoder` has them, alone as in a batch, and the same after a checkpoint."""
    inner: nn.Module = OTHERS[kind]().eval()
    name, settings = encoder_kind(inner)
    assert name == kind
    described = {"kind": name, "config": settings}
    shape = AcousticConfig(FeaturesConfig(weighted=weighted, normalize=False), NETWORKS["prelu"], 5, encoder=described)
    made = AcousticModel(shape, inner).eval()
    waveforms = [sound[:n] for sound, n in zip(sounds(), (7000, 5000, 4321), strict=True)]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    together = made(padded, torch.tensor([len(one) for one in waveforms]))
    again = AcousticModel(from_dict(AcousticConfig, to_dict(made.config), "test")).eval()
    again.load_state_dict(made.state_dict())
    plain = Encoder(inner)  # type: ignore[arg-type]
    for row, waveform in zip(together.logits, waveforms, strict=True):
        alone = made(waveform[None])
        torch.testing.assert_close(row[: alone.logits.shape[1]], alone.logits[0], rtol=1e-3, atol=1e-4)
        assert torch.equal(again(waveform[None]).logits, alone.logits)
        heard = made.features(waveform[None], torch.tensor([len(waveform)]))
        states = plain.hidden_states(waveform[None])[0] if weighted else [plain(waveform[None])]
        torch.testing.assert_close(heard, torch.stack(states, 2), rtol=1e-4, atol=1e-5)


def test_the_published_networks() -> None:
    """Frames stay frames; as many weights as the layers of the reference have."""
    timit, wsj = (load_recipe(name, "acoustic", AcousticRecipe) for name in ("asg-timit", "asg-wsj"))
    counts = {}
    for name, recipe, labels in (("timit", timit, 39), ("wsj", wsj, 31)):
        network = AcousticNetwork(recipe.network, 512, labels)
        counts[name] = sum(value.numel() for value in network.parameters())
        assert len(network.convolutions) == len(recipe.network.channels)
    assert counts["timit"] == (512 * 5 + 6 * 1000 * 5 + 7) * 1000 + 7 + 1000 * 39 + 39
    before = [512, 100, 100, 100, 125, 125, 150, 175, 200, 225, 250, 250, 250, 300, 300, 375]
    after = [200, 200, 200, 250, 250, 300, 350, 400, 450, 500, 500, 500, 600, 600, 750, 1000]
    taps = [13, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 21, 1]
    convolutions = sum(i * o * k + o for i, o, k in zip(before, after, taps, strict=True))
    assert counts["wsj"] == convolutions + 500 * 31 + 31
    small = AcousticNetwork(replace(wsj.network, channels=(4,) * 16), 8, 31)
    assert small(torch.randn(2, 50, 8), torch.tensor([50, 20])).shape == (2, 50, 31)


@pytest.mark.parametrize("kind", ["prelu", "gated"])
def test_signals_keep_their_size_at_the_start(kind: Any) -> None:
    """Through seven layers, with dropout; with torch's weights the gated one fades."""
    spread = {}
    for how in ("scaled", "torch"):
        torch.manual_seed(1)
        network = AcousticNetwork(NetworkConfig(kind, (60,) * 7, (5,) * 7, 0.5, how), 60, 30).train()  # type: ignore[arg-type]
        found = network(torch.randn(2, 100, 60), torch.tensor([100, 100]))
        spread[how] = float(found.detach().std())
    assert 0.3 < spread["scaled"] < 6
    if kind == "gated":
        assert spread["torch"] < 0.1


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ConfigError, match="layer 4: this encoder has 0 to 3"):
        model(layer=4)
    with pytest.raises(ConfigError, match="log-mel bands have none"):
        model(on=False, layer=1)
    with pytest.raises(ConfigError, match="one number a layer"):
        NetworkConfig("prelu", (4, 4), (5,))
