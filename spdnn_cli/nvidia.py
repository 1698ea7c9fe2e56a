"""The NVIDIA GPUs of this machine, as their driver tells of them (NVML), without touching CUDA."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from spdnn_cli.errors import DeviceError
from spdnn_cli.results.record import Gpu, GpuState

CUDA_13_DRIVER = 580
"""The first driver that runs CUDA 13."""


@dataclass(frozen=True)
class _Found:
    """What the driver says: its GPUs; or why it says nothing, None where there is no driver."""

    gpus: tuple[Gpu, ...] = ()
    failure: str | None = None


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA is to see; empty where there are none.

    `CUDA_VISIBLE_DEVICES` counts, by CUDA's rules: a number, a UUID or its unique beginning, or a
    MIG instance; the first entry that names nothing hides itself and all after it.

    Raises:
        DeviceError: it names a device twice, in which case CUDA shows none.
    """
    found, visible = _driver().gpus, os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(device for gpu in found for device in _devices(gpu))
    named: list[Gpu] = []
    for entry in visible.split(","):
        gpu = _named(entry.strip(), found)
        if gpu is None:
            break
        if gpu in named:
            raise DeviceError(
                f"CUDA_VISIBLE_DEVICES={visible} names the device {gpu.uuid} twice",
                hint="Name each device once.",
            )
        named.append(gpu)
    return tuple(named)


def why_no_gpu() -> str | None:
    """Why `gpus` is empty, though there is a driver or a GPU; None: there is nothing to say."""
    found = _driver()
    if found.failure is not None:
        return found.failure
    if found.gpus and not gpus():
        count = "the GPU" if len(found.gpus) == 1 else f"all {len(found.gpus)} GPUs"
        return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']} hides {count}"
    return None


def why_not_cuda() -> str | None:
    """Why a GPU of this machine cannot be used; None: it can, or there is none.

    What only CUDA itself can tell shows when an engine starts.
    """
    if gpus() and importlib.util.find_spec("cupy") is None:
        return f"{gpus()[0].name} needs CuPy, which is not installed ({_cupy_command()})"
    return why_no_gpu()


def _cupy_command() -> str:
    """How to install the CuPy that the driver can run."""
    version = re.match(r"\d+", gpus()[0].driver)
    extra = "cuda13" if version and int(version[0]) >= CUDA_13_DRIVER else "cuda12"
    return f"pip install 'spdnn[{extra}]'"


def check_cuda() -> None:
    """Check that there is a GPU, and CuPy.

    Raises:
        DeviceError: what is missing.
    """
    if not gpus():
        why = why_no_gpu()
        if why is None:
            raise DeviceError("there is no NVIDIA GPU on this machine", hint="Use --device cpu.")
        hint = "Set it to devices of nvidia-smi -L, or unset it"
        if _driver().failure is not None:
            hint = "Restart the machine or have the driver installed again"
        raise DeviceError(f"no NVIDIA GPU can be used: {why}", hint=f"{hint}; or use --device cpu.")
    if (why := why_not_cuda()) is not None:
        raise DeviceError(why, hint="Install it, or use --device cpu.")


def gpu_state(uuid: str) -> GpuState | None:
    """Clocks (MHz), temperature (degrees C) and power (W) of a GPU now; None: it is not told."""
    try:
        nvml = _nvml()
        gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)
    except _failures():
        return None
    return GpuState(
        sm_mhz=_value(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
        memory_mhz=_value(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
        temperature_c=_value(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
        power_w=_value(lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    )


def _value(ask: Callable[[], float]) -> float | None:
    """What the driver answers; None where it does not tell (MIG instances, older GPUs)."""
    try:
        return float(ask())
    except _failures():
        return None


@cache
def _nvml() -> Any:
    """NVML, ready to be asked."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def _failures() -> tuple[type[Exception], ...]:
    """What NVML raises; or the import of its module."""
    try:
        import pynvml
    except ImportError:
        return (ImportError,)
    return (ImportError, pynvml.NVMLError)


@cache
def _driver() -> _Found:
    """All GPUs, also those that `CUDA_VISIBLE_DEVICES` hides."""
    try:
        nvml = _nvml()
    except ImportError as error:
        return _Found(failure=f"nvidia-ml-py cannot be imported ({error})")
    except _failures() as error:
        missing = isinstance(error, _nvml_error("NVMLError_LibraryNotFound"))
        return _Found(failure=None if missing else f"the NVIDIA driver says: {_words(error)}")
    found, failure = [], None
    try:
        driver = nvml.nvmlSystemGetDriverVersion()
        count = nvml.nvmlDeviceGetCount()
    except _failures() as error:
        return _Found(failure=f"the NVIDIA driver says: {_words(error)}")
    for number in range(count):
        try:
            gpu = nvml.nvmlDeviceGetHandleByIndex(number)
            found.append(Gpu(nvml.nvmlDeviceGetName(gpu), nvml.nvmlDeviceGetUUID(gpu), driver))
        except _failures() as error:  # it fell off the bus, or is kept from this container
            failure = f"the NVIDIA driver says of GPU {number}: {_words(error)}"
    return _Found(tuple(found), None if found else failure)


def _nvml_error(name: str) -> Any:
    import pynvml

    return getattr(pynvml, name)


def _words(error: Any) -> str:
    """The driver's own words, where it has any; else those of its Python module."""
    import pynvml

    words = str(error)
    with contextlib.suppress(pynvml.NVMLError, AttributeError):
        words = str(pynvml.nvmlErrorString(error.value))
    return words.rstrip(".") or type(error).__name__


def _named(entry: str, found: tuple[Gpu, ...]) -> Gpu | None:
    """The device that an entry of `CUDA_VISIBLE_DEVICES` names; None: none, or not just one."""
    if number := re.match(r"[+-]?\d+", entry):
        place = int(number[0])
        return _devices(found[place])[0] if 0 <= place < len(found) else None
    if entry.startswith("MIG-"):
        return _mig_instance(entry, found)
    matching = [gpu for gpu in found if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    return _devices(matching[0])[0] if len(matching) == 1 else None


def _devices(gpu: Gpu) -> list[Gpu]:
    """What programs run on: the GPU, or its MIG instances where it is cut into such."""
    return [instance for instance, _ in _mig_instances(gpu)] or [gpu]


def _mig_instance(entry: str, found: tuple[Gpu, ...]) -> Gpu | None:
    """The MIG instance of that UUID or its beginning, or of the older MIG-GPU-UUID/GI/CI."""
    matching: list[Gpu] = []
    for gpu in found:
        for instance, place in _mig_instances(gpu):
            older = f"MIG-{gpu.uuid}/{place}"
            if instance.uuid.startswith(entry) or older == entry:
                matching.append(instance)
    return matching[0] if len(matching) == 1 else None


@cache
def _mig_instances(gpu: Gpu) -> list[tuple[Gpu, str]]:
    """The MIG instances of a GPU, each with the numbers of its GPU and compute instance."""
    nvml, instances = _nvml(), []
    with contextlib.suppress(AttributeError, *_failures()):  # the GPU, or NVML, knows no MIG
        whole = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
            with contextlib.suppress(*_failures()):  # there is no instance at this place
                part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, number)
                place = (
                    f"{nvml.nvmlDeviceGetGpuInstanceId(part)}/"
                    f"{nvml.nvmlDeviceGetComputeInstanceId(part)}"
                )
                uuid = nvml.nvmlDeviceGetUUID(part)
                instances.append((Gpu(nvml.nvmlDeviceGetName(part), uuid, gpu.driver), place))
    return instances
