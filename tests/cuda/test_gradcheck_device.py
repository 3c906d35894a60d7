"""`python -m tinynet.gradcheck --device cuda:0`: the table through the kernels of a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from tinynet.gradcheck.__main__ import main

FEW = ["relu", "to", "neg", "(a shared node)"]


@pytest.mark.parametrize(
    "names", [FEW, pytest.param([], marks=pytest.mark.slow)], ids=["a few", "all"]
)
def test_the_table_on_a_gpu(gpu: Any, names: list[str], capsys: Any) -> None:
    assert main(["--device", "cuda:0", *names]) == 0, capsys.readouterr().err
    assert " 0 wrong" in capsys.readouterr().out


def test_a_wrong_kernel_of_a_gpu_is_found(gpu: Any, monkeypatch: Any, capsys: Any) -> None:
    right = gpu.kernels.relu_backward
    monkeypatch.setattr(gpu.kernels, "relu_backward", lambda *a, **k: 1.001 * right(*a, **k))
    assert main(["--device", "cuda:0", "relu"]) == 1
    assert main(["--device", "cpu", "relu"]) == 0
    assert "(central differences)" in capsys.readouterr().err
