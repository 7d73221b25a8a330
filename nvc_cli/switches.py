"""The flags of packets in the entropy-coded payload, with probabilities that adapt from frame to frame.

A payload is a rANS bitstream (Duda 2013) with a 64-bit state in front. What is pushed onto that state last is decoded first: so
flags are pushed when all else is coded, and read without any network. stream.md describes both to the bit.
"""

from __future__ import annotations

START = {"filtered": (1, 1), "refresh": (16, 0), "enhance_last": (0, 4)}
"""How often each flag is taken to have been 0 and 1 at a keyframe."""

REMEMBERED = 64
"""Counts are halved when their sum reaches this."""

BITS, WORD = 16, 32
LOWEST, HIGHEST = 1 << 31, 1 << 63
STATE_BYTES = 8


class Switches:
    """What the flags since the keyframe were. Writer and reader of a stream have one each."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as at every keyframe."""
        self.counts = {name: list(counts) for name, counts in START.items()}

    def push(self, payload: bytes, flags: dict[str, bool]) -> bytes:
        """The payload with these flags in front of it.

        Raises:
            ValueError: the payload is not one of the entropy coder.
        """
        state, rest = _split(payload)
        for name, flag in reversed(flags.items()):
            start, frequency = self._interval(name, flag)
            if state >= frequency << 63 - BITS:
                rest = (state & (1 << WORD) - 1).to_bytes(4, "little") + rest
                state >>= WORD
            state = (state // frequency << BITS) + state % frequency + start
        self._learn(flags)
        head = state.to_bytes(STATE_BYTES, "little")
        return head[:5] + head[5:].rstrip(b"\0") + rest

    def pull(self, data: bytes, names: tuple[str, ...]) -> tuple[dict[str, bool], bytes]:
        """The flags of these names, and the payload without them.

        Raises:
            ValueError: the data are not a payload.
        """
        dropped = -len(data) % 4
        state, rest = _split(data[: STATE_BYTES - dropped] + bytes(dropped) + data[STATE_BYTES - dropped :])
        flags = {}
        for name in names:
            place = state % (1 << BITS)
            flags[name] = place >= self._interval(name, True)[0]
            start, frequency = self._interval(name, flags[name])
            state = frequency * (state >> BITS) + place - start
            if state < LOWEST:
                if not rest:
                    raise ValueError("the payload ends too soon")
                state, rest = state << WORD | int.from_bytes(rest[:4], "little"), rest[4:]
        self._learn(flags)
        return flags, state.to_bytes(STATE_BYTES, "little") + rest

    def _interval(self, name: str, flag: bool) -> tuple[int, int]:
        """Start and length of a flag's interval, of 2^16."""
        zeros, ones = self.counts[name]
        split = (1 << BITS) - (2 * ones + 1 << BITS) // (2 * (zeros + ones) + 2)
        return (split, (1 << BITS) - split) if flag else (0, split)

    def _learn(self, flags: dict[str, bool]) -> None:
        for name, flag in flags.items():
            counts = self.counts[name]
            counts[flag] += 1
            if sum(counts) >= REMEMBERED:
                counts[:] = (count // 2 for count in counts)


def _split(payload: bytes) -> tuple[int, bytes]:
    """State and words."""
    state = int.from_bytes(payload[:STATE_BYTES], "little")
    if len(payload) < STATE_BYTES or len(payload) % 4 or not LOWEST <= state < HIGHEST:
        raise ValueError("the payload does not begin with a valid state of the entropy coder")
    return state, payload[STATE_BYTES:]
