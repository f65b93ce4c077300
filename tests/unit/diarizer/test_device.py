"""The device is found without torch wherever there is no GPU."""

import subprocess
import sys

import pytest

from careca.errors import PreconditionFailed
from careca.settings import ModelServiceSettings
from careca.types import GpuMemory
from careca_diarizer import device
from careca_diarizer.device import CPU, select_device
from careca_diarizer.engine import build_engine
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.torch_device import TorchDevice


def settings(device: str, **others: object) -> ModelServiceSettings:
    return ModelServiceSettings.model_validate({"device": device, **others})


@pytest.mark.parametrize("named", ["auto", "cpu"])
def test_a_machine_without_the_drivers_library_has_no_gpu_and_torch_is_not_asked(named: str) -> None:
    code = (
        "import sys\n"
        "from careca.settings import ModelServiceSettings\n"
        "from careca_diarizer import device\n"
        "device._DRIVER = 'libcuda-that-nobody-has.so'\n"
        f"print(device.select_device(ModelServiceSettings(device={named!r})).name, 'torch' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["cpu", "False"]


@pytest.mark.parametrize(("gpus", "name"), [(1, "cuda:0"), (0, "cpu")])
def test_with_a_driver_torch_says_whether_there_is_a_gpu(gpus: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVER", "libc.so.6")
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)

    selected = select_device(settings("auto"))

    assert (selected.name, selected.is_gpu) == (name, gpus > 0)
    assert isinstance(selected, TorchDevice if gpus else CPU)


def test_the_setting_decides_over_what_is_there() -> None:
    selected = select_device(settings("cuda", device_index=3))

    assert selected.name == "cuda:3"


def test_without_torch_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVER", "libc.so.6")
    monkeypatch.setattr(device, "find_spec", lambda _name: None)

    assert select_device(settings("auto")).name == "cpu"
    with pytest.raises(PreconditionFailed, match=r"careca-diarizer\[cuda\]") as caught:
        select_device(settings("cuda"))
    assert caught.value.reason == "GPU_SUPPORT_NOT_INSTALLED"


def test_a_pretrained_pipeline_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda _name: None)

    with pytest.raises(PreconditionFailed, match=r"careca-diarizer\[pyannote\]") as caught:
        build_engine(DiarizerSettings(pipeline="org/pipeline"))
    assert caught.value.reason == "PIPELINE_SUPPORT_NOT_INSTALLED"


def test_processors_have_the_threads_of_the_settings_and_no_gpu_memory() -> None:
    processors = CPU(settings("cpu", threads=3))

    processors.prepare()
    processors.release_cache()

    assert (processors.threads, processors.memory()) == (3, GpuMemory())
    with pytest.raises(MemoryError), processors.translated_errors():
        raise MemoryError
