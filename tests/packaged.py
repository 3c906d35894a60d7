"""Whether an installed tinynet is whole: python tests/packaged.py REPOSITORY.

Every file of the package has come along (the GPU kernels' text, the embedded pictures, the
licences), it computes, and its programs start. Run from elsewhere than the repository.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import tinynet
from tinynet.data import fashion_mnist

ENDINGS = {".css", ".cu", ".gz", ".js", ".py", ".typed", ""}  # "": LICENSE


def files_in(package: Path) -> dict[str, bytes]:
    """{path: content} of a package's files, but for what Python compiled."""
    paths = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in paths}


def main() -> None:
    source, installed = Path(sys.argv[1]) / "tinynet", Path(tinynet.__file__).parent
    if source.resolve() == installed.resolve():
        sys.exit(f"expected an installed tinynet, got the repository's own: {installed}")
    expected, found = files_in(source), files_in(installed)
    missing = sorted(name for name in expected if found.get(name) != expected[name])
    if missing or not {Path(name).suffix for name in found} >= ENDINGS:
        sys.exit(f"{installed}: missing or other than in {source}: {', '.join(missing)}")
    licences = [str(file) for file in metadata.files("tinynet") if file.name == "LICENSE"]
    if len(licences) < 2:  # ours, and that of the embedded pictures
        sys.exit(f"expected two licences in the distribution, got {licences}")
    train, test = fashion_mnist()
    assert len(train) == 10_000 and len(test) == 2_000
    subprocess.run([sys.executable, "-m", "tinynet.gradcheck", "relu", "conv2d"], check=True)
    print(f"whole: {len(found)} files, {', '.join(licences)}")


if __name__ == "__main__":
    main()
