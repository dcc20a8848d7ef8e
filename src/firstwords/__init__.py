"""Firstwords: one maintained home for the wav2vec family.

recognizer = firstwords.Recognizer.load("runs/words")
encoder = firstwords.load_encoder("runs/listen")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError

if TYPE_CHECKING:
    from firstwords.classifier import SpeechClassifier
    from firstwords.encoder import load_encoder
    from firstwords.recognizer import Recognizer
    from firstwords.transcript import Transcript

__version__ = "0.1.0"

# On CPUs torch's oneDNN keeps 1,024 prepared operations, about 5 MB for each length of audio that it has met, which
# grows to gigabytes over recordings of many lengths; it reads this when it is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
__all__ = ["FirstwordsError", "Recognizer", "SpeechClassifier", "Transcript", "__version__", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Imports torch only for those who use a model."""
    places = {
        "Recognizer": "recognizer", "SpeechClassifier": "classifier", "Transcript": "transcript",
        "load_encoder": "encoder",
    }  # fmt: skip
    if name in places:
        return getattr(importlib.import_module(f"firstwords.{places[name]}"), name)
    raise AttributeError(f"module 'firstwords' has no attribute {name!r}")
