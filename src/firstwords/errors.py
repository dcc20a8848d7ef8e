"""The errors that a user can cause. Each says what was found, where, and the mend."""

from __future__ import annotations


class FirstwordsError(Exception):
    """Base of every error that the command line prints without a traceback (exit code 2)."""


class AudioError(FirstwordsError):
    """A recording that cannot be used: unreadable, empty, cut short, or holding values that are not numbers."""


class CorpusError(FirstwordsError):
    """A manifest, shard or corpus folder that does not say what it should."""


class ConfigError(FirstwordsError):
    """A configuration with an unknown key, a value of the wrong kind, or values that contradict each other."""


class CheckpointError(FirstwordsError):
    """A checkpoint or run folder that cannot be read, written, or does not fit the model."""


class TextError(FirstwordsError):
    """A transcript that the alphabet cannot spell."""


class LanguageModelError(FirstwordsError):
    """A language model, or a text to learn one from, that cannot be used."""


class AlignmentError(FirstwordsError):
    """A text that cannot be laid over a recording."""


class MissingExtraError(FirstwordsError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(feature, package, extra)  # so that it pickles: a process may have to tell its parent

    def __str__(self) -> str:
        feature, package, extra = self.args
        return f"{feature} needs the package {package}: pip install 'firstwords[{extra}]'"
