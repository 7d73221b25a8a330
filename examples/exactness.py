"""Do streams decode to the same pictures everywhere? A matrix over instruction sets, thread counts, arithmetic and devices.

    python examples/exactness.py CLIP... --frames 16 --qps 1,3,6

Streams written under default settings are decoded under every setting, and streams written under every setting are
decoded under the default. PyTorch, oneDNN and nvc read their settings when they start, so each setting has a process of
its own. Instructions that the processor lacks are replaced by the best that it has. The exit code is 1 if any picture differs.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import click

INSTRUCTIONS = {
    "float32, SSE4.1": {"NVC_BACKEND": "float32", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "float32, AVX-512": {"NVC_BACKEND": "float32", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "16 bits": {"NVC_PRODUCTS": "plain"},
    "AVX-VNNI": {"NVC_PRODUCTS": "vnni256"},
    "AVX-512 VNNI": {"NVC_PRODUCTS": "vnni512"},
    "unset": {},
}
DEFAULT = ("unset", "2", "cpu")


def settings(devices: list[str]) -> list[tuple[str, str, str]]:
    """Instruction set, threads, device."""
    processors = [(name, threads, "cpu") for name, threads in product(INSTRUCTIONS, ("1", "2"))]
    return processors + [("unset", "2", device) for device in devices if device != "cpu"]


def run(setting: tuple[str, str, str], job: dict) -> dict[str, list[str]]:
    """Do a job in a process of its own; returns the hashes of the pictures of each stream."""
    instructions, threads, device = setting
    environment = {**os.environ, **INSTRUCTIONS[instructions]}
    job = {**job, "threads": int(threads), "device": device}
    done = subprocess.run([sys.executable, __file__, "--worker"], input=json.dumps(job), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise click.ClickException(f"{' '.join(setting)}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def work(job: dict) -> dict[str, list[str]]:
    """In the process of one setting: encode clips into a folder, or decode all streams of a folder."""
    from nvc_cli.decision import Heuristic
    from nvc_cli.decoder import Decoder
    from nvc_cli.encoder import Encoder
    from nvc_cli.frame import Frame
    from nvc_cli.runtime import load_encoder
    from nvc_cli.stream import Header, StreamReader, StreamWriter
    from nvc_cli.video import open_reader

    model = load_encoder(job["model"], job["device"], job["threads"])

    def digest(frame: Frame) -> str:
        return hashlib.sha256(b"".join(plane.tobytes() for plane in (frame.y, frame.u, frame.v))).hexdigest()

    hashes, folder = {}, Path(job["folder"])
    if job["kind"] == "decode":
        for path in sorted(folder.glob("*.nvc")):
            with path.open("rb") as file:
                reader = StreamReader(file, path.name)
                decoder = Decoder(reader.header, model, name=path.name)
                hashes[path.stem] = [digest(frame) for packet in reader for frame in decoder.decode(packet)]
        return hashes
    for clip, qp in product(job["clips"], job["qps"]):
        name = f"{Path(clip).stem}-{qp:g}"
        with open_reader(clip, None, None, job["frames"]) as reader, (folder / f"{name}.nvc").open("wb") as file:
            header = Header.of(reader.info, model)
            encoder = Encoder(model, qp, 0, Heuristic())
            hashes[name] = []
            with StreamWriter(file, header) as stream:
                for encoded in encoder.encode_all(reader):
                    stream.write(encoded.packet)
                    hashes[name].append(digest(encoded.picture))
    return hashes


@click.command()
@click.argument("clips", nargs=-1, type=click.Path(exists=True))
@click.option("--frames", type=int, default=16, show_default=True)
@click.option("--qps", default="1,3,6", show_default=True)
@click.option("--model", default="tiny", show_default=True, help="A model of the package, or a .safetensors file.")
@click.option("--device", "devices", multiple=True, help="Another device to test, such as cuda; may be repeated.")
@click.option("--worker", is_flag=True, hidden=True)
def main(clips: tuple[str, ...], frames: int, qps: str, model: str, devices: tuple[str, ...], worker: bool) -> None:
    """Check that streams of CLIPS decode to the same pictures under every setting."""
    if worker:
        click.echo(json.dumps(work(json.load(sys.stdin))))
        return
    if not clips:
        raise click.UsageError("give at least one clip")
    encoding = {"kind": "encode", "clips": clips, "qps": [float(qp) for qp in qps.split(",")], "frames": frames, "model": model}
    wrong = 0

    def compare(what: str, expected: dict[str, list[str]], got: dict[str, list[str]]) -> None:
        nonlocal wrong
        differ = sorted(name for name in expected if got.get(name) != expected[name])
        wrong += len(differ)
        pictures = sum(map(len, expected.values()))
        click.echo(f"{what:48} {len(expected)} streams, {pictures} pictures: {'differ: ' + ', '.join(differ) if differ else 'identical'}")

    with tempfile.TemporaryDirectory() as folder:
        written = run(DEFAULT, {**encoding, "folder": folder})
        for setting in settings(list(devices)):
            got = run(setting, {"kind": "decode", "folder": folder, "model": model})
            compare(f"written by default, decoded by {' '.join(setting)}", written, got)
    for setting in settings(list(devices)):
        if setting == DEFAULT:
            continue
        with tempfile.TemporaryDirectory() as folder:
            written = run(setting, {**encoding, "folder": folder})
            got = run(DEFAULT, {"kind": "decode", "folder": folder, "model": model})
            compare(f"written by {' '.join(setting)}, decoded by default", written, got)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
