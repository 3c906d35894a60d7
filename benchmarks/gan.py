"""How good the pictures of a run of examples/history/gan.py are: what a classifier that was trained
apart says of 1,000 of them; and eight, each above the training picture nearest to it.

    python examples/history/gan.py --out GAN
    python examples/history/lenet5.py --out JUDGE
    python benchmarks/gan.py GAN JUDGE nearest.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from tinynet import no_grad
from tinynet.data import fashion_mnist
from tinynet.training.drawings import picture_rows
from tinynet.training.evaluate import probabilities
from tinynet.training.inputs import batch_of
from tinynet.training.objective import same_luck

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "history"))
import gan  # noqa: E402
import lenet5  # noqa: E402

COUNT, SHOWN = 1000, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("gan", type=Path, help="a run of gan.py on the embedded pictures")
    parser.add_argument("judge", type=Path, help="a run of lenet5.py on them")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    args = parser.parse_args()

    (forger,), *_ = gan.PROGRAM.load([args.gan])
    (judge,), task, about, _ = lenet5.PROGRAM.load([args.judge])
    with no_grad(), same_luck():
        forged = forger.forge(COUNT).numpy() / 2 + 0.5  # (N, 1, 28, 28), 0 to 1
    pictures = np.moveaxis(255 * forged + 0.5, 1, 3).astype(np.uint8)
    batch = batch_of(list(pictures), about["image_size"])
    likely = probabilities([judge], batch, task.make_inputs)

    shares = np.bincount(likely.argmax(axis=1), minlength=len(about["classes"])) / COUNT
    for name, share in sorted(zip(about["classes"], shares, strict=True), key=lambda row: -row[1]):
        print(f"{share:6.1%}  {name}")
    sure = likely.max(axis=1).mean()
    print(f"{np.count_nonzero(shares)} classes of {len(shares)}; mean confidence {sure:.3f}")

    train = fashion_mnist()[0].pictures.reshape(-1, 28 * 28) / np.float32(255)
    chosen = forged[:SHOWN]
    each = [((train - one.ravel()) ** 2).sum(axis=1) for one in chosen]
    nearest = train[[far.argmin() for far in each]].reshape(-1, 1, 28, 28)
    args.picture.write_bytes(picture_rows([chosen, nearest], 4))
    print(f"distances of the nearest: {[round(float(far.min() ** 0.5), 1) for far in each]}")


if __name__ == "__main__":
    main()
