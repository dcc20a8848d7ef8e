"""The command line: one thin module per command, imported only when it is called."""

from __future__ import annotations

import importlib
import io
import sys

from firstwords import __version__
from firstwords.errors import FirstwordsError

COMMANDS = {
    "demo": "everything below in miniature, offline, in a few minutes",
    "audit": "what is in a corpus and what will hurt: lengths, silence, clipping, broken files, duplicates",
    "prepare": "recordings in any layout to a manifest, and shards if asked",
    "pretrain": "listen: learn speech representations from audio alone",
    "finetune": "first words: learn to transcribe from few transcripts",
    "lm": "language models: n-grams as ARPA files, or a small Transformer; perplexity of either",
    "tune": "language-model weight and word score that make the fewest errors",
    "transcribe": "recordings of any length, or a microphone, to text, subtitles and other formats",
    "align": "when each word of a text was said; sentence-sized utterances out of a long recording",
    "embed": "features of any layer: of frames, utterances or windows; NumPy, safetensors or Parquet",
    "units": "discrete units: k-means over any layer, or a model's own codes; how they agree with phones",
    "codes": "which phones a model's codes stand for; how languages and speakers share them",
    "compare": "curves of runs over reference curves, and where they stand",
    "evaluate": "word and character error rates with intervals, confusions, speakers",
    "classify": "speakers, keywords, languages, emotions: train, predict, evaluate; speaker verification",
    "convert": "models to and from Hugging Face, fairseq, ONNX and OpenVINO, proven equal",
}
"""Each command and what it does; the module of the same name in this folder has its `run(arguments)`."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 2 for an error that the user can mend, 128 + n after a signal n."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or file name that is not Unicode must not stop a command
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"firstwords {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see firstwords --help"
        print(f"firstwords: no command {command!r}; {hint}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"firstwords.cli.{command}")
    try:
        return int(module.run(rest) or 0)
    except FirstwordsError as error:
        print(f"firstwords {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"firstwords {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = ["Speech recognition from recordings and few transcripts: the wav2vec family.", ""]
    lines += [f"  firstwords {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", "firstwords COMMAND --help says what each takes."])
