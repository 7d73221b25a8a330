"""What the machine is called and how fast it is, for logs and cards."""

import platform
from functools import lru_cache
from pathlib import Path
from time import monotonic

import torch


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {torch.get_num_threads()} threads"


@lru_cache
def training_dtype(device: torch.device) -> torch.dtype:
    """What convolutions are trained in: bfloat16, or float32 on processors for which that is faster."""
    if device.type == "cuda":
        return torch.bfloat16
    return max((torch.bfloat16, torch.float32), key=lambda dtype: _convolution_rate(device, dtype, 1))


def plain_rate(device: torch.device) -> float:
    """FLOP/s of a large plain channels-last convolution, forward and backward, in the type that is trained in: the yardstick of the trainer."""
    return _convolution_rate(device, training_dtype(device), 8)


def _convolution_rate(device: torch.device, dtype: torch.dtype, batch: int) -> float:
    generator = torch.Generator(device).manual_seed(1)  # what is measured must not change what is drawn

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype).to(memory_format=torch.channels_last).requires_grad_()

    x, w = noise(batch, 128, 64, 64), noise(128, 128, 3, 3)
    times = []
    for _ in range(5):
        _wait(device)
        begin = monotonic()
        torch.nn.functional.conv2d(x, w, padding=1).backward(x.detach())
        _wait(device)
        times.append(monotonic() - begin)
    return 3 * 2 * batch * 64 * 64 * 128 * 128 * 9 / sorted(times)[2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
