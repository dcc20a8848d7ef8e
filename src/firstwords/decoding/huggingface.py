"""Any causal language model that Hugging Face's transformers opens, for rescoring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from firstwords.errors import LanguageModelError, MissingExtraError

BATCH_TOKENS = 4_096
"""Most tokens, padding included, in one forward pass: their logits over a large vocabulary take memory."""


class HuggingFaceScorer:
    """Scores whole sentences.

    A sentence stands between the tokenizer's marks of begin and end where it has them. A model without a begin mark
    (or an end mark in its place, as GPT-2) cannot say how probable a first token is, which then counts nothing.

    Args:
        model: a causal model of transformers.
        tokenizer: its tokenizer.
        device: where it works.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str = "cpu") -> None:
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        end = tokenizer.eos_token_id
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
        self._before = [] if begin is None else [begin]
        self._after = [] if end is None else [end]

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> HuggingFaceScorer:
        """Opens a model folder. Nothing is fetched from a network, and no code of the folder runs.

        Raises:
            MissingExtraError: transformers is not installed.
            LanguageModelError: no causal language model there.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise LanguageModelError(f"{folder}: no config.json there, so no Hugging Face model")
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("rescoring with a Hugging Face model", "transformers", "huggingface") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, torch_dtype=torch.float32
            )
        except Exception as error:  # whatever transformers raises: it has many ways to say that files do not fit
            first = str(error).strip().split("\n")[0]
            raise LanguageModelError(f"{folder}: not a causal language model that opens ({first})") from error
        return cls(model, tokenizer, device)

    @torch.inference_mode()
    def score_sentences(self, sentences: Sequence[str]) -> list[float]:
        """log10 of the probability of each sentence, its end mark included.

        Raises:
            LanguageModelError: a sentence is longer than the model's context.
        """
        encoded = [
            [*self._before, *self.tokenizer(sentence, add_special_tokens=False)["input_ids"], *self._after]
            for sentence in sentences
        ]
        most = getattr(self.model.config, "max_position_embeddings", None)
        scores = [0.0] * len(encoded)
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        while order:
            count = 1
            while count < len(order) and (count + 1) * len(encoded[order[count]]) <= BATCH_TOKENS:
                count += 1
            members, order = order[:count], order[count:]
            longest = len(encoded[members[-1]])
            if most is not None and longest > most:
                raise LanguageModelError(
                    f"a sentence of {longest} tokens, above the model's {most}: {sentences[members[-1]][:60]!r}..."
                )
            if longest < 2:  # nothing to foresee
                continue
            for member, score in zip(members, self._score([encoded[one] for one in members], longest), strict=True):
                scores[member] = score
        return scores

    def _score(self, batch: list[list[int]], longest: int) -> list[float]:
        tokens = torch.zeros(len(batch), longest, dtype=torch.long)
        there = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, ids in enumerate(batch):
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            there[row, : len(ids)] = 1
        tokens, there = tokens.to(self.device), there.to(self.device)
        logits = self.model(input_ids=tokens, attention_mask=there).logits[:, :-1].float()
        logs = logits.log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0].double()
        return [float(one) for one in (logs * there[:, 1:]).sum(1) / math.log(10)]
