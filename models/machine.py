"""What the machine is called and how fast it is, for logs and cards."""

import platform
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


def plain_rate(device: torch.device) -> float:
    """FLOP/s of a large plain bfloat16 channels-last convolution, forward and backward: the yardstick of the trainer."""
    x = torch.randn(8, 128, 64, 64, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(128, 128, 3, 3, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    times = []
    for _ in range(5):
        _wait(device)
        begin = monotonic()
        torch.nn.functional.conv2d(x, w, padding=1).backward(x.detach())
        _wait(device)
        times.append(monotonic() - begin)
    return 3 * 2 * 8 * 64 * 64 * 128 * 128 * 9 / sorted(times)[2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
