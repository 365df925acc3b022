"""GPUs are tried before they are planned for: a false NVML counts cards that CUDA has not."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from text_recognizer import devices
from text_recognizer.devices import try_gpu, try_gpus
from text_recognizer.errors import InputError
from training import run_experiment
from tuning import search

COUNTS_ONE = """
int cards = 1;
int nvmlInit(void) { return 0; }
int nvmlDeviceGetCount_v2(int *count) { *count = cards; return 0; }
"""
SPACE = "experiment: {data_class: Digits}\nspace: {fc1: {type: int, low: 8, high: 64}}\n"
NO_DRIVER = "GPU 0: RuntimeError: Found no NVIDIA driver on your system."


@pytest.fixture(autouse=True)
def tried_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the GPUs of another, and what is hidden is seen again."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    try_gpus.cache_clear()
    yield
    try_gpus.cache_clear()


@pytest.fixture
def false_nvml(tmp_path: Path) -> Iterator[None]:
    """torch finds this library under the name of NVML, because it is loaded."""
    if not (compiler := shutil.which("gcc")):
        pytest.skip("there is no gcc to build a false NVML with")
    if torch.cuda.device_count():
        pytest.skip("there is a real NVML")
    source, library = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    source.write_text(COUNTS_ONE)
    command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, source]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    yield
    ctypes.c_int.in_dll(loaded, "cards").value = 0  # torch keeps the library loaded


@pytest.mark.usefixtures("false_nvml", "no_ray")
def test_a_card_that_cuda_cannot_use_is_not_planned_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SPACE)
    assert torch.cuda.device_count() == 1
    assert torch.cuda.is_available(), "Lightning has torch ask NVML"

    # Without a word Lightning would ask the card, even on the CPU.
    one = ["--data_class=Digits", "--max_epochs=1", "--fc1=8", "--test=false"]
    run_experiment.main([*one, "--gpus=0"])
    assert "note" not in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    for flags in ([], ["--gpus=1"]):
        run_experiment.main([*one, *flags])
        said = capsys.readouterr().out
        assert f"note: no GPU here can be used: {NO_DRIVER}" in said
        assert "; training on the CPU" in said
        assert "validation, epoch 1: val_loss" in said
    with pytest.raises(InputError, match=f"accelerator: no GPU here can be used: {NO_DRIVER}"):
        run_experiment.main([*one, "--accelerator=gpu"])

    assert search.main(["--space", "s.yaml", "--check"]) == 0
    said = capsys.readouterr().out
    assert f"no GPU here can be used: {NO_DRIVER}" in said
    assert "(1 CPU each, no GPU)" in said
    with pytest.raises(InputError, match=f"--require-gpu: no GPU here can be used: {NO_DRIVER}"):
        search.main(["--space", "s.yaml", "--require-gpu"])
    assert torch.cuda.device_count() == 0, "it is hidden from Ray and its workers"


def test_only_cards_that_work_are_seen_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"  # each card has a process that sees no other
    python.write_text(
        "#!/bin/sh\n"
        "case $CUDA_VISIBLE_DEVICES in\n"
        "1) echo Traceback >&2; echo 'AcceleratorError: no kernel image' >&2; exit 1;;\n"
        "2) kill -SEGV $$;;\n"
        "3) exec tail -f /dev/null;;\n"
        "*) echo NVIDIA H100;;\n"
        "esac\n"
    )
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    found = try_gpus()
    assert found.names == ("NVIDIA H100",)
    assert found.problem == (
        "GPU 1: AcceleratorError: no kernel image; GPU 2: its process ended with -11"
    )
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setattr(devices, "ANSWERS_WITHIN_S", 0.1)
    assert try_gpu(os.environ | {"CUDA_VISIBLE_DEVICES": "3"}) == ("", "no answer in 0.1 s")
