"""NVML as the environment variable STAND_IN_NVML has it (JSON): a driver and its GPUs.

{"failure": NAME}                   nvmlInit raises NVMLError_NAME
{"version": "570.1", "gpus": [{"name": ..., "uuid": ..., "lost": true, "mig": [{"name": ...,
"uuid": ..., "place": "GI/CI"}]}]}  a GPU that is lost raises an error
"""

from __future__ import annotations

import json
import os
from typing import Any

TOLD = json.loads(os.environ["STAND_IN_NVML"])
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
WORDS = {
    "LibraryNotFound": "NVML Shared Library Not Found",
    "DriverNotLoaded": "Driver Not Loaded",
    "LibRmVersionMismatch": "Driver/library version mismatch",
    "NoPermission": "Insufficient Permissions",
    "GpuIsLost": "GPU is lost",
    "NotSupported": "Not Supported",
}


class NVMLError(Exception):
    """With the name of an error as its value."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __str__(self) -> str:
        return "words of the module, not of the driver"


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
    pass


def _error(name: str) -> NVMLError:
    kind = NVMLError_LibraryNotFound if name == "LibraryNotFound" else NVMLError
    return kind(name)


def nvmlErrorString(value: str) -> str:  # noqa: N802
    return WORDS[value]


def nvmlInit() -> None:  # noqa: N802
    if "failure" in TOLD:
        raise _error(TOLD["failure"])


def nvmlSystemGetDriverVersion() -> str:  # noqa: N802
    return str(TOLD.get("version", "570.1"))


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(TOLD["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> Any:  # noqa: N802
    gpu = TOLD["gpus"][index]
    if gpu.get("lost"):
        raise _error("GpuIsLost")
    return gpu


def nvmlDeviceGetHandleByUUID(uuid: str) -> Any:  # noqa: N802
    return next(gpu for gpu in TOLD["gpus"] if gpu["uuid"] == uuid)


def nvmlDeviceGetName(gpu: Any) -> str:  # noqa: N802
    return str(gpu["name"])


def nvmlDeviceGetUUID(gpu: Any) -> str:  # noqa: N802
    return str(gpu["uuid"])


def nvmlDeviceGetMaxMigDeviceCount(gpu: Any) -> int:  # noqa: N802
    return 7 if "mig" in gpu else 0


def nvmlDeviceGetMigDeviceHandleByIndex(gpu: Any, index: int) -> Any:  # noqa: N802
    if index >= len(gpu["mig"]):
        raise _error("NotSupported")
    return gpu["mig"][index]


def nvmlDeviceGetGpuInstanceId(part: Any) -> int:  # noqa: N802
    return int(part["place"].split("/")[0])


def nvmlDeviceGetComputeInstanceId(part: Any) -> int:  # noqa: N802
    return int(part["place"].split("/")[1])


def nvmlDeviceGetClockInfo(gpu: Any, kind: int) -> int:  # noqa: N802
    return {NVML_CLOCK_SM: 1980, NVML_CLOCK_MEM: 2619}[kind]


def nvmlDeviceGetTemperature(gpu: Any, sensor: int) -> int:  # noqa: N802
    return 41


def nvmlDeviceGetPowerUsage(gpu: Any) -> int:  # noqa: N802
    raise _error("NotSupported")
