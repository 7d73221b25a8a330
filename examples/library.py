"""nvc as a library: pictures of a program go into a stream one at a time, and come out again.

    python examples/library.py OUT.nvc
"""

import sys
from fractions import Fraction

import numpy as np

from nvc_cli import BT709, Decoder, Encoder, Header, StreamReader, StreamWriter, VideoInfo


def ball(t: int) -> np.ndarray:
    """An RGB picture (H, W, 3), uint8: a ball that flies over a meadow."""
    rows, columns = np.mgrid[:120, :160]
    picture = np.stack([rows, 90 + rows // 2, 160 - rows], axis=2)
    picture[(rows - 60 + 3 * t) ** 2 + (columns - 20 - 6 * t) ** 2 < 200] = 250, 120, 30
    return picture.astype(np.uint8)


encoder, pictures = Encoder("tiny", qp=2), [ball(t) for t in range(12)]
with open(sys.argv[1], "wb") as file, StreamWriter(file, Header.of(VideoInfo(160, 120, Fraction(30), color=BT709), encoder.model)) as stream:
    for encoded in encoder.encode_all(pictures):
        stream.write(encoded.packet)

with open(sys.argv[1], "rb") as file:
    reader = StreamReader(file, sys.argv[1])
    decoder = Decoder(reader.header)
    decoded = [frame.rgb(reader.header.color) for packet in reader for frame in decoder.decode(packet)]
errors = [np.abs(a.astype(int) - b).mean() for a, b in zip(pictures, decoded, strict=True)]
print(f"{len(decoded)} pictures in {stream.size} bytes, mean error {np.mean(errors):.2f} of 255")
