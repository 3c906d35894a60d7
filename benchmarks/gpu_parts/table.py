"""What a reader wants to know of all that was found, in a short table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SIDES = ("tinynet", "tinynet, from host", "PyTorch eager", "PyTorch best")


def failed(found: dict[str, Any]) -> bool:
    """Whether a part found something wrong, or ended in an error."""
    return any(_mark(result) == "FAILED" for result in found.values())


def table(found: dict[str, Any]) -> list[str]:
    """One line each: checks, memory, rates, where a step goes, guesses."""
    return [
        line for section in (_checks, _peaks, _rates, _steps, _guesses) for line in section(found)
    ]


def _mark(result: Any) -> str:
    if isinstance(result, str):
        return "FAILED" if result.startswith("failed") else "-"
    ok = result.get("ok", "") if isinstance(result, dict) else ""
    return {True: "ok", False: "FAILED", None: "-"}.get(ok, "")


def _checks(found: dict[str, Any]) -> Iterator[str]:
    for name, result in found.items():
        if isinstance(result, str):
            yield f"{name:<34} {_mark(result):<7} {result}"
        elif _mark(result):
            said = (f"{k} {v}" for k, v in result.items() if k != "ok" and v not in ([], ""))
            yield f"{name:<34} {_mark(result):<7} {', '.join(said)}"


def _peaks(found: dict[str, Any]) -> Iterator[str]:
    memory, peaks = _numbers(found, "memory"), _numbers(found, "peaks")
    if memory:
        yield f"{'memory':<34} " + ", ".join(f"{k} {v / 1e9:.2f} GB" for k, v in memory.items())
    if peaks:
        fp32, tf32 = (peaks[f"{kind}_flops"] / 1e12 for kind in ("fp32", "tf32"))
        seen = f"{peaks['bytes_per_second'] / 1e12:.2f} TB/s, fp32 {fp32:.0f}, tf32 {tf32:.0f}"
        yield f"{'seen at most':<34} {seen} TFLOP/s"


def _rates(found: dict[str, Any]) -> Iterator[str]:
    rows = {
        name[5:]: result
        for name, result in found.items()
        if name.startswith("rate ") and isinstance(result, dict)
    }
    if rows:
        yield f"{'pictures/s':<34} " + "".join(f"{s:>20}" for s in SIDES) + f"{'ours / eager':>14}"
    for name, ours in rows.items():
        kind, batch, *_ = name.split()
        row = ours | _numbers(found, f"PyTorch {kind}").get(batch, {})
        values = "".join(f"{row[s]:>20,.0f}" if s in row else f"{'-':>20}" for s in SIDES)
        eager = row.get("PyTorch eager")
        yield f"{name:<34} {values}" + (f"{row['tinynet'] / eager:>14.2f}" if eager else "")


def _steps(found: dict[str, Any]) -> Iterator[str]:
    peaks = _numbers(found, "peaks")
    for kind in ("fp32", "tf32"):
        timing, kernels = _numbers(found, f"busy {kind}"), found.get(f"kernels {kind}")
        wall = timing.get("wall")
        if wall:
            gpu, host = 1e3 * timing["gpu"], 1e3 * timing["host"]
            busy = min(1, timing["gpu"] / wall)
            yield (
                f"{kind}: a step {1e3 * wall:.2f} ms, on the GPU {gpu:.2f} ms, launched in "
                f"{host:.2f} ms: busy {busy:.0%}"
            )
        floor = found.get(f"gemm floor {kind}")
        if wall and isinstance(floor, float):
            yield f"  GEMM floor {1e3 * floor:.2f} ms, {floor / wall:.0%} of the step"
        if isinstance(kernels, list):
            ours = 1e3 * sum(row["seconds"] for row in kernels)
            yield f"{kind}: kernels {ours:.2f} ms; the rest is CuPy's copies and fills, and gaps"
        for row in kernels if isinstance(kernels, list) and peaks else []:
            seconds = max(row["seconds"], 1e-12)
            share = f"{row['bytes'] / seconds / peaks['bytes_per_second']:>6.0%} of the bandwidth"
            if row["flops"]:
                share = f"{row['flops'] / seconds / peaks[f'{kind}_flops']:>6.0%} of the GEMM rate"
            spent = f"{row['calls']:>4} x {1e3 * row['seconds']:>8.3f} ms"
            yield f"  {row['kernel']:<32} {spent} {share}"


def _guesses(found: dict[str, Any]) -> Iterator[str]:
    for name, tried in _numbers(found, "guesses").items():
        yield f"{name:<34} " + ", ".join(f"{k}: {spent:.3f} ms" for k, spent in tried.items())
    pieces = _numbers(found, "pieces of columns")
    for kind in ("fp32", "tf32") if pieces else ():
        tried = (f"{k[5:]}: {v:,.0f}/s" for k, v in pieces.items() if k.startswith(kind))
        yield f"{f'conv2d.COLUMN_BYTES, {kind}':<34} " + ", ".join(tried)


def _numbers(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What a part found, if it found figures."""
    result = found.get(name)
    return result if isinstance(result, dict) else {}
