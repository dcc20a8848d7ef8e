"""What a linear map can tell of phones, with labels: the floor under wav2vec-U, for MFCCs and each layer of an encoder.

    python experiments/unsupervised_probe.py CORPUS RUN

CORPUS is that of unsupervised_data.py, RUN an encoder. Features come every 20 ms and are normalised in each utterance;
the probe (`unsupervised/diagnostics.py`) learns from a part of the training split, and is judged on the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from trials import table

from firstwords.corpus.feature_store import Features
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.encoder import load_encoder
from firstwords.nn.mfcc import mfcc
from firstwords.unsupervised.diagnostics import ProbeConfig, probe_error_rate


@dataclass
class Settings:
    """Which data, which probes."""

    corpus: tyro.conf.Positional[Path]
    """With `phones` in its manifest."""
    encoder: tyro.conf.Positional[Path]
    """A run or checkpoint."""
    kernels: tuple[int, ...] = (1, 9)
    """Frames that a probe sees at once."""
    training: int = 700
    """Utterances to learn from."""
    test: int = 120
    """Utterances to judge on."""
    epochs: int = 20
    """Passes over them."""


def main() -> None:
    settings = tyro.cli(Settings)
    torch.set_num_threads(1)
    utterances, random = read_manifest(settings.corpus), np.random.default_rng(0)
    learnt, judged = (
        [part[n] for n in random.permutation(len(part))[:most]]
        for part, most in (
            ([u for u in utterances if u.split == "train"], settings.training),
            ([u for u in utterances if u.split == "test"], settings.test),
        )
    )
    truth, test_truth = ({u.id: " ".join(u.extras["phones"]).split() for u in part} for part in (learnt, judged))
    phones = sorted({phone for said in truth.values() for phone in said})
    heard, tested = (features_of(part, settings.encoder) for part in (learnt, judged))
    rows = []
    for name, features in heard.items():
        rates = [
            probe_error_rate(
                features, truth, tested[name], test_truth, phones, ProbeConfig(settings.epochs, 16, 1e-2, kernel)
            )
            for kernel in settings.kernels
        ]
        rows.append((name, *(f"{100 * rate:.1f}" for rate in rates)))
    hours = sum(u.duration or 0 for u in learnt) / 3600
    print(f"{len(learnt)} utterances, {hours:.2f} h; phone error rate % on {len(judged)} others")
    print(table(("features", *(f"{kernel} frames" for kernel in settings.kernels)), rows))


@torch.inference_mode()
def features_of(utterances: Sequence[Utterance], place: Path) -> dict[str, Features]:
    """Features every 20 ms by name, mean 0 and deviation 1 in each utterance."""
    encoder = load_encoder(place, "cpu")
    names = ["MFCCs", *(f"layer {layer}" for layer in range(encoder.layers + 1))]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for utterance in track(utterances, len(utterances), "features"):
        samples = torch.from_numpy(utterance.read())
        layers = [encoder(samples[None], layer=layer)[0] for layer in range(encoder.layers + 1)]
        for name, values in zip(names, [mfcc(samples)[::2], *layers], strict=True):
            found[name].append(((values - values.mean(0)) / (values.std(0) + 1e-5)).numpy())
    ids = tuple(utterance.id for utterance in utterances)
    return {
        name: Features(np.concatenate(each), np.array([len(one) for one in each]), ids) for name, each in found.items()
    }


if __name__ == "__main__":
    main()
