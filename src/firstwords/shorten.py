"""Samples packed with shorten (Robinson 1994), as the SPHERE files of older corpora hold them; WSJ ships so.

A stream of blocks, one channel after the other. What a block holds of each sample is how far it is from a prediction,
as a Rice code: as many 0 bits as its high part says, a 1, and k low bits. All bits are found by numpy at once; Python
only follows from each code to the next: a second of 16 kHz takes some 15 ms.
"""

from __future__ import annotations

import numpy as np

from firstwords.errors import AudioError

MAGIC = b"ajkg"
SIXTEEN_BITS = (3, 5)
"""Sample types that can be read: 16 bits, whichever byte was first before they were packed."""
DIFFERENCES = 4
"""Commands 0 to 3: a block whose samples are foretold by so many before them."""
QUIT, BLOCK_SIZE, BIT_SHIFT, LINEAR, ZERO, VERBATIM = range(4, 10)
MOST_CHANNELS, MOST_SAMPLES = 8, 65_535
PREDICTION_BITS = 5
"""Fixed-point digits of the coefficients of a linear prediction."""
MOST_LOW_BITS, FARTHEST = 20, 1 << 24
"""What no sound samples need; damaged data soon do."""
BROKEN_SAMPLES = "broken shorten data: samples far beyond 16 bits"
WINDOW_BITS = 1 << 20
"""Bits that are looked at together; a block that does not fit in gets more."""


def unpack(data: bytes) -> np.ndarray:
    """(frames, channels) int16 of a shorten stream, version 1 to 3, of 16-bit samples.

    Raises:
        AudioError: no such stream, or one that is broken or ends too early.
    """
    if data[:4] != MAGIC or len(data) < 6:
        raise AudioError("no shorten data where the header says that they are")
    version = data[4]
    if not 1 <= version <= 3:
        raise AudioError(f"shorten version {version}, which cannot be read here")
    return _Stream(_Bits(data, 5), version).samples()


class _Bits:
    """The numbers in a stream of bits, highest bit first."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._first, self._place = data, start, 0
        self._look(WINDOW_BITS)

    def _look(self, wanted: int) -> None:
        """Moves the window to where reading is, and lets it have `wanted` bits at the least if there are any."""
        self._first += self._place // 8
        self._place %= 8
        self._wanted = wanted
        part = np.frombuffer(self._data, np.uint8)[self._first : self._first + wanted // 8 + 1]
        self._last = self._first + len(part) >= len(self._data)
        self._bits = np.unpackbits(part)
        size = len(self._bits)
        ones = np.where(self._bits, np.arange(size), 2 * size)
        self._ones = np.minimum.accumulate(ones[::-1])[::-1].tolist()
        """For each bit the place of the next 1, itself included; beyond the window where there is none."""

    def numbers(self, low: int, count: int) -> np.ndarray:
        """So many Rice codes with `low` low bits each, int64."""
        while True:
            ones, place, ends = self._ones, self._place, []
            try:
                for _ in range(count):
                    place = ones[place] + 1 + low
                    ends.append(place)
            except IndexError:
                place = len(ones) + 1
            if place <= len(ones):
                break
            if self._last:
                raise AudioError("cut short: its shorten data end in the middle of a block")
            self._look(WINDOW_BITS if self._place >= 8 else 2 * self._wanted)
        after = np.array(ends, dtype=np.int64)
        before = np.concatenate([[self._place], after[:-1]])
        values = after - low - 1 - before
        for bit in range(low, 0, -1):
            values = values << 1 | self._bits[after - bit]
        self._place = place
        return values

    def number(self, low: int) -> int:
        """One of them."""
        return int(self.numbers(low, 1)[0])

    def signed(self, low: int, count: int) -> np.ndarray:
        """Numbers 0, -1, 1, -2, ..., as the codes 0, 1, 2, 3, ... stand for them; `low` does not count the sign."""
        codes = self.numbers(low + 1, count)
        return codes >> 1 ^ -(codes & 1)

    def any_number(self) -> int:
        """A number that says itself how many low bits it has."""
        return self.number(self.number(2))


class _Stream:
    """The blocks of a stream, and what is remembered from one to the next."""

    def __init__(self, bits: _Bits, version: int) -> None:
        self.bits, self.rounds = bits, version > 1
        kind, channels = bits.any_number(), bits.any_number()
        if kind not in SIXTEEN_BITS:
            raise AudioError(f"shorten data of samples of type {kind}, not of 16 bits; unpack them first: sph2pipe")
        self.size, self.orders, self.means = bits.any_number(), bits.any_number(), bits.any_number()
        if not (1 <= channels <= MOST_CHANNELS and 1 <= self.size <= MOST_SAMPLES and self.means <= MOST_SAMPLES):
            raise AudioError(f"broken shorten header: {channels} channels, blocks of {self.size} samples")
        for _ in range(bits.any_number()):
            bits.number(7)
        self.shift = 0
        self.past = [np.zeros(max(3, self.orders), dtype=np.int64) for _ in range(channels)]
        self.levels = [[0] * self.means for _ in range(channels)]
        """Mean of each channel's last blocks."""

    def samples(self) -> np.ndarray:
        """(frames, channels) int16."""
        found: list[list[np.ndarray]] = [[] for _ in self.past]
        channel = 0
        while (command := self.bits.number(2)) != QUIT:
            if command == BLOCK_SIZE:
                self.size = self.bits.any_number()
                if not 1 <= self.size <= MOST_SAMPLES:
                    raise AudioError(f"broken shorten data: a block of {self.size} samples")
            elif command == BIT_SHIFT:
                self.shift = self.bits.number(2)
                if self.shift > 15:
                    raise AudioError(f"broken shorten data: a shift by {self.shift} bits")
            elif command == VERBATIM:
                self.bits.numbers(8, self.bits.number(5))
            elif command < DIFFERENCES or command in (LINEAR, ZERO):
                found[channel].append(self._block(command, channel))
                channel = (channel + 1) % len(found)
            else:
                raise AudioError(f"broken shorten data: unknown command {command}")
        if channel:
            raise AudioError("broken shorten data: a channel is shorter than the others")
        whole = [np.concatenate([np.zeros(0, dtype=np.int64), *blocks]) for blocks in found]
        return np.clip(np.stack(whole, 1), -32768, 32767).astype(np.int16)

    def _block(self, command: int, channel: int) -> np.ndarray:
        past, levels = self.past[channel], self.levels[channel]
        low = 0 if command == ZERO else self.bits.number(3)
        if low > MOST_LOW_BITS:
            raise AudioError(f"broken shorten data: differences of {low} bits and more")
        level = _divided(sum(levels) + self.rounds * (self.means // 2), self.means) if levels else 0
        if self.rounds:
            level >>= self.shift
        if command == ZERO:
            block = np.zeros(self.size, dtype=np.int64)
        elif command == LINEAR:
            block = self._foretold(past - level, low) + level
        else:
            block = self.bits.signed(low, self.size)
            if command == 0:
                block = block + level
            for order in range(command, 0, -1):  # a sum for each time that differences were taken
                block = np.diff(past, order - 1)[-1] + np.cumsum(block)
        if np.abs(block).max() > FARTHEST:
            raise AudioError(BROKEN_SAMPLES)
        if levels:
            mean = _divided(int(block.sum()) + self.rounds * (self.size // 2), self.size)
            levels[:] = [*levels[1:], mean << self.shift if self.rounds else mean]
        self.past[channel] = np.concatenate([past, block])[-len(past) :]
        return block << self.shift

    def _foretold(self, past: np.ndarray, low: int) -> np.ndarray:
        """A block each of whose samples is foretold by a weighted sum of those before it."""
        order = self.bits.number(2)
        if order > len(past):
            raise AudioError(f"broken shorten data: a prediction from {order} samples, {len(past)} at most")
        weights = self.bits.signed(PREDICTION_BITS, order).tolist() if order else []
        start = (1 << PREDICTION_BITS) * (self.rounds and order > 0)
        values = past.tolist()
        for residual in self.bits.signed(low, self.size).tolist():
            total = start
            for back, weight in enumerate(weights, 1):
                total += weight * values[-back]
            values.append(residual + (total >> PREDICTION_BITS))
            if abs(values[-1]) > FARTHEST:
                raise AudioError(BROKEN_SAMPLES)
        return np.array(values[len(past) :], dtype=np.int64)


def _divided(total: int, count: int) -> int:
    """Towards zero, as C divides."""
    return abs(total) // count * (1 if total >= 0 else -1)
