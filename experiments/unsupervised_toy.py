"""Does the adversarial training find phones without labels? Made-up speech whose truth is known, in minutes.

    python experiments/unsupervised_toy.py WORK [--phones phones.txt] [--symbols 15] [--steps 6000] [--seeds 0 1 2 3]

Sentences are of two halves that share none: one is "said", the other only read. They are those of a file of phones
(text/phones.txt of a prepared folder), or a random Markov source of --symbols phones makes them. Each phone said
becomes one segment or more, Gaussian around its phone's centre, mixed with its neighbours' centres, in --dim
dimensions. What a classifier makes of the segments that knows the centres is reported beside: what noise alone costs.

Prints every member's label-free figures beside its phone error rate, and which one was chosen. Resumable: the same
command goes on in WORK.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from firstwords.config import to_dict
from firstwords.models.wav2vec_u import DiscriminatorConfig, Wav2VecU, Wav2VecUConfig
from firstwords.training.adversarial import Sweep
from firstwords.training.adversarial_config import AdversarialConfig, ChoiceConfig, GridConfig
from firstwords.training.matching import MatchingConfig, matched_start
from firstwords.training.phone_choice import PhoneJudge
from firstwords.training.run import Run
from firstwords.training.sweep import SweepTraining
from firstwords.training.unpaired import Speech, Text, UnpairedBatches

SILENCE = "<SIL>"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("work", type=Path)
    arguments.add_argument("--phones", type=Path, help="sentences to say and to read, phones between spaces")
    arguments.add_argument("--symbols", type=int, default=15)
    arguments.add_argument("--utterances", type=int, default=2000)
    arguments.add_argument("--dim", type=int, default=64)
    arguments.add_argument("--scale", type=float, default=1.0, help="standard deviation of a dimension of the centres")
    arguments.add_argument("--noise", type=float, default=0.5, help="standard deviation beside the centres' 1")
    arguments.add_argument("--length", type=int, nargs=2, default=[8, 24], help="phones of a Markov sentence")
    arguments.add_argument("--mix", type=float, default=0.15, help="share of each neighbour's centre")
    arguments.add_argument("--steps", type=int, default=6000)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    arguments.add_argument("--gradient", type=float, nargs="+", default=[1.5])
    arguments.add_argument("--smoothness", type=float, nargs="+", default=[0.5])
    arguments.add_argument("--diversity", type=float, nargs="+", default=[4.0])
    arguments.add_argument("--width", type=int, default=128, help="of the discriminator")
    arguments.add_argument("--kernel", type=int, default=6, help="of the discriminator")
    arguments.add_argument("--batch", type=int, default=160)
    arguments.add_argument("--at-once", type=int, default=0, help="members of a seed in one computation")
    arguments.add_argument("--rates", type=float, nargs=2, default=[4e-4, 5e-4])
    arguments.add_argument("--mismatch", action="store_true", help="text of another language: another Markov source")
    arguments.add_argument(
        "--start", choices=("random", "matched", "truth"), default="random",
        help="matched: clusters deciphered by their statistics; truth: does it stay there?",
    )  # fmt: skip
    arguments.add_argument("--all", action="store_true", help="stop no member early")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(7)
    if chosen.phones:
        sentences = [line.split() for line in chosen.phones.read_text(encoding="utf-8").splitlines() if line.strip()]
        sentences = [sentences[n] for n in random.permutation(len(sentences))]
    else:
        sentences = markov_sentences(chosen.symbols, 3 * chosen.utterances, chosen.length, random)
    if chosen.mismatch:
        other = markov_sentences(chosen.symbols, 2 * chosen.utterances, chosen.length, np.random.default_rng(99))
        sentences = sentences[: chosen.utterances] + other
    said, read = sentences[: chosen.utterances], sentences[chosen.utterances :]
    counts: dict[str, int] = {}
    for sentence in read:
        for phone in sentence:
            counts[phone] = counts.get(phone, 0) + (phone != SILENCE)
    phones = [*sorted((p for p in counts if p != SILENCE), key=lambda p: -counts[p]), SILENCE]
    said = [[phone for phone in sentence if phone in phones] for sentence in said]
    values, lengths, floor, centres = speak(said, phones, chosen, random)
    print(
        f"{len(phones)} symbols, {len(said)} utterances, {lengths.sum()} segments ({lengths.mean():.1f} each); "
        f"segments told by the nearest centre, runs joined: PER {floor:.1%}"
    )
    count = len(said) // 10
    begin = int(lengths[:count].sum())
    ids = [str(n) for n in range(count)]
    valid = Speech(values[:begin], lengths[:count], ids=ids)
    speech = Speech(values[begin:], lengths[count:])
    truth = dict(zip(ids, said[:count], strict=True))
    grid = GridConfig(
        tuple(chosen.gradient), tuple(chosen.smoothness), tuple(chosen.diversity), (0.0,), tuple(chosen.seeds)
    )
    config = AdversarialConfig(
        grid=grid, discriminator=DiscriminatorConfig(chosen.width, chosen.kernel), batch=chosen.batch,
        steps=chosen.steps, device="cpu",
        choice=ChoiceConfig(validate_every=250, stop_after=() if chosen.all else (0.15, 0.3, 0.5)),
        log_every=250, save_every=250, members_at_once=chosen.at_once,
        matching=MatchingConfig(restarts=4 if chosen.start == "matched" else 0),
    )  # fmt: skip
    config = AdversarialConfig(**{
        **config.__dict__,
        "generator_optimizer": type(config.generator_optimizer)(chosen.rates[0], 0.0),
        "discriminator_optimizer": type(config.discriminator_optimizer)(chosen.rates[1], 1e-4),
    })  # fmt: skip
    shape = Wav2VecUConfig(chosen.dim, len(phones) + 4, config.generator, config.discriminator)
    judge = PhoneJudge(read, phones, SILENCE)
    run = Run(chosen.work, "unsupervised", to_dict(config), {key: str(value) for key, value in vars(chosen).items()})
    reader = Text(read, phones)
    batches = UnpairedBatches(speech, reader, chosen.batch)

    def begin(seed: int, model: Wav2VecU) -> None:
        started = time.perf_counter()
        found = matched_start(model, speech, reader, config.matching, seed, torch.device("cpu"))
        print(
            f"seed {seed}: {found.distance:.3f} from the statistics of text at {found.stretch:g} segments a phone, "
            f"{time.perf_counter() - started:.0f} s"
        )

    fresh = chosen.start == "matched" and run.last() is None
    sweep = Sweep(config, shape, torch.device("cpu"), begin if fresh else None)
    if chosen.start == "truth":
        know(sweep, centres)
    training = SweepTraining(config, sweep, batches, valid, judge, run, truth)
    outcome = training.train()
    rows = []
    for member in training.sweep.members:
        if best := member.best:
            figures = ("update", "weighted", "perplexity", "used", "balance", "fluency", "per")
            row = {name: getattr(best, name) for name in figures}
            rows.append({"member": member.number, "seed": member.seed, "penalties": str(member.penalties)} | row)
            shown = "  ".join(f"{name} {value:.3g}" for name, value in row.items())
            print(f"{member}: {member.state} after {member.until}; best moment: {shown}")
    print(f"chosen: {outcome.chosen}; {outcome.verdict.text if outcome.verdict else ''}")
    result = {"floor": floor, "chosen": outcome.chosen and outcome.chosen.number, "members": rows,
              "verdict": outcome.verdict and outcome.verdict.to_dict()}  # fmt: skip
    (chosen.work / "toy.json").write_text(json.dumps(result, indent=1))


def markov_sentences(symbols: int, count: int, length: list[int], random: np.random.Generator) -> list[list[str]]:
    """Sentences of a Markov source: phones are as unequally frequent as in speech, and after each some are likely.

    <SIL> at both ends, and now and then between two phones.
    """
    frequent = 1 / np.arange(1, symbols + 1)
    shares = np.stack([random.dirichlet(4 * frequent / frequent.sum()) for _ in range(symbols)])
    shares = 0.98 * shares + 0.02 * frequent / frequent.sum()
    shares[np.arange(symbols), np.arange(symbols)] *= 0.02  # as in speech, a phone seldom follows itself
    cumulative = np.cumsum(shares / shares.sum(-1, keepdims=True), -1)
    sentences = []
    for _ in range(count):
        one = [int(random.choice(symbols, p=frequent / frequent.sum()))]
        for draw in random.random(int(random.integers(*length))):
            one.append(min(symbols - 1, int(np.searchsorted(cumulative[one[-1]], draw))))
        words = [f"p{number}" for number in one]
        for place in range(len(words) - 1, 0, -1):
            if random.random() < 0.06:
                words.insert(place, SILENCE)
        sentences.append([SILENCE, *words, SILENCE])
    return sentences


def speak(
    said: list[list[str]], phones: list[str], chosen: argparse.Namespace, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Segments (sum of T, D), how many each sentence has, the error rate of a perfect classifier, and the centres."""
    from firstwords.scoring import ErrorCounts, word_errors

    centres = random.standard_normal((len(phones), chosen.dim)).astype(np.float32) * chosen.scale
    known = {phone: number for number, phone in enumerate(phones)}
    parts, lengths, total = [], [], ErrorCounts()
    for sentence in said:
        spans = 1 + random.binomial(2, 0.2, len(sentence))
        ids = np.repeat([known[phone] for phone in sentence], spans)
        clean = centres[ids]
        mixed = clean.copy()
        mixed[1:] += chosen.mix * (clean[:-1] - clean[1:])
        mixed[:-1] += chosen.mix * (clean[1:] - clean[:-1])
        noise = random.standard_normal(mixed.shape).astype(np.float32) * chosen.noise * chosen.scale
        parts.append(mixed + noise)
        lengths.append(len(ids))
        nearest = ((parts[-1][:, None] - centres) ** 2).sum(-1).argmin(-1) if len(lengths) <= 200 else None
        if nearest is not None:
            joined = nearest[np.flatnonzero(np.diff(nearest, prepend=-1))]
            heard = " ".join(phones[n] for n in joined if phones[n] != SILENCE)
            total += word_errors(" ".join(phone for phone in sentence if phone != SILENCE), heard)
    return np.concatenate(parts), np.array(lengths), total.rate, centres


def know(sweep: Sweep, centres: np.ndarray, sharpness: float = 6.0) -> None:
    """Gives all generators the truth: a phone's logit is the product with its centre, about `sharpness` for itself."""
    known = torch.from_numpy(centres / (centres**2).sum(1).mean() * sharpness)
    with torch.no_grad():
        weight = sweep.model.generator.weight
        weight.zero_()
        weight[:, 4:, :, weight.shape[-1] // 2] = known


if __name__ == "__main__":
    main()
