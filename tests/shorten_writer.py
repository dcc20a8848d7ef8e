"""A plain writer of shorten streams, and of SPHERE files that hold them."""

from __future__ import annotations

import numpy as np


class Writer:
    """Bits of a stream; ffmpeg reads what it makes as we do (tried by hand, with PyAV)."""

    def __init__(self) -> None:
        self.bits: list[str] = []

    def number(self, value: int, low: int) -> None:
        self.bits.append("0" * (value >> low) + "1" + (format(value & (1 << low) - 1, f"0{low}b") if low else ""))

    def signed(self, value: int, low: int) -> None:
        self.number(2 * value if value >= 0 else -2 * value - 1, low + 1)

    def any_number(self, value: int) -> None:
        low = max(0, value.bit_length() - 1)
        self.number(low, 2)
        self.number(value, low)

    def bytes(self) -> bytes:
        text = "".join(self.bits)
        text += "0" * (-len(text) % 32)
        return bytes(int(text[place : place + 8], 2) for place in range(0, len(text), 8))


def pack(
    samples: np.ndarray, commands: list[object], size: int = 64, means: int = 4, version: int = 2, low: int = 5
) -> bytes:
    """Samples (frames, channels) as a stream.

    `commands` are taken in turn, a block of each channel each: 0 to 3, "zero", or the weights of a linear prediction,
    with ("shift", bits) between them.
    """
    frames, channels = samples.shape
    bits = Writer()
    for value in (5, channels, size, 8, means, 0):
        bits.any_number(value)
    past = [[0] * 8 for _ in range(channels)]
    levels = [[0] * means for _ in range(channels)]
    start, turn, shift = 0, 0, 0

    def divided(total: int, count: int) -> int:
        return int(total / count)

    while start < frames:
        command = commands[turn % len(commands)]
        turn += 1
        if isinstance(command, tuple):
            bits.number(6, 2)
            bits.number(shift := command[1], 2)
            continue
        now = min(size, frames - start)
        if now != size:
            bits.number(5, 2)
            bits.any_number(size := now)
        for channel in range(channels):
            block = (samples[start : start + now, channel].astype(int) >> shift).tolist()
            rounded = version > 1
            level = divided(sum(levels[channel]) + rounded * (means // 2), means) if means else 0
            level = level >> shift if rounded else level
            values = past[channel] + block
            if command == "zero":
                assert not any(block)
                bits.number(8, 2)
            elif isinstance(command, list):
                bits.number(7, 2)
                bits.number(low, 3)
                bits.number(len(command), 2)
                for weight in command:
                    bits.signed(weight, 5)
                for place in range(8, len(values)):
                    total = 32 * rounded
                    total += sum(w * (values[place - b] - level) for b, w in enumerate(command, 1))
                    bits.signed(values[place] - level - (total >> 5), low)
            else:
                bits.number(command, 2)
                bits.number(low, 3)
                for place in range(8, len(values)):
                    one, two, three = (values[place - back] for back in (1, 2, 3))
                    guess = (level, one, 2 * one - two, 3 * one - 3 * two + three)[command]
                    bits.signed(values[place] - guess, low)
            if means:
                mean = divided(sum(block) + rounded * (now // 2), now)
                levels[channel] = [*levels[channel][1:], mean << shift if rounded else mean]
            past[channel] = values[-8:]
        start += now
    bits.number(4, 2)
    return b"ajkg" + bytes([version]) + bits.bytes()


def sphere(samples: np.ndarray, data: bytes, coding: str = "pcm,embedded-shorten-v2.00") -> bytes:
    frames, channels = samples.shape
    header = (
        f"NIST_1A\n   1024\nsample_count -i {frames}\nsample_rate -i 16000\nchannel_count -i {channels}\n"
        f"sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_coding -s{len(coding)} {coding}\nend_head\n"
    )
    return header.encode().ljust(1024) + data
