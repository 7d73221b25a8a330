"""What the processor has instructions for."""

import ctypes
import os
import platform
import sys

from llvmlite.binding import get_host_cpu_features, initialize_native_asmparser

FORMS = ("amx", "vnni512", "vnni256", "dotprod", "plain")
"""Of products of bytes, the fastest first."""


def _tiles_are_allowed() -> bool:
    """Ask Linux for tiles: XFEATURE_XTILEDATA by ARCH_REQ_XCOMP_PERM; see arch_prctl(2)."""
    try:
        return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)
    except (OSError, AttributeError):
        return False


def _has_dotprod() -> bool:
    """Ask Linux for HWCAP_ASIMDDP by AT_HWCAP; see getauxval(3). All Macs of this kind have it."""
    if sys.platform == "darwin":
        return True
    try:
        return bool(ctypes.CDLL(None).getauxval(16) >> 20 & 1) and sys.platform == "linux"
    except (OSError, AttributeError, TypeError):
        return False


def forms() -> tuple[str, ...]:
    """Those that this processor has."""
    known = {"plain": True}
    if platform.machine() in ("aarch64", "arm64") and _has_dotprod():
        initialize_native_asmparser()
        known["dotprod"] = True
    if platform.machine() in ("x86_64", "AMD64"):
        has = get_host_cpu_features()
        known["amx"] = has.get("amx-tile") and has.get("amx-int8") and sys.platform == "linux" and _tiles_are_allowed()
        known["vnni512"] = has.get("avx512vnni") and has.get("avx512f")
        known["vnni256"] = has.get("avxvnni") or (has.get("avx512vnni") and has.get("avx512vl"))
    return tuple(form for form in FORMS if known.get(form))


def _chosen() -> str:
    having = forms()
    wanted = os.environ.get("NVC_PRODUCTS")  # to try the others
    return wanted if wanted in having else having[0]


FORM = _chosen()
"""The form in use."""


def _chosen_roughly() -> str:
    has = get_host_cpu_features()
    if platform.machine() not in ("x86_64", "AMD64"):
        return "neon"
    if FORM == "amx" and has.get("amx-bf16"):
        return "amx"
    if FORM in ("amx", "vnni512"):
        return "avx512"
    return "avx2" if has.get("avx2") and has.get("fma") else "sse"


ROUGH = _chosen_roughly()
"""The form of products of bfloat16 in use: by AMX as fast as those of twice as many bytes; else as floats, in vectors of that kind's size."""
