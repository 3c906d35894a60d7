"""From a batch of bytes to what a net sees, by the definition in Inputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet.data import Batch
from tinynet.recording import is_grad_enabled
from tinynet.tensors import Tensor
from tinynet.training.evaluate import probabilities, views_of
from tinynet.training.inputs import Inputs, batch_of, read_picture


def batch(rng, channels=3, colour=True):
    """Five pictures of 7 x 10, each cut elsewhere, some mirrored."""
    return Batch(
        pictures=rng.integers(0, 256, (5, 7, 10, channels), np.uint8),
        labels=np.array([3, 0, 1, 2, 3]),
        top=np.array([0, 3, 1, 2, 0], np.int32),
        left=np.array([6, 0, 2, 5, 3], np.int32),
        flip=np.array([False, True, True, False, True]),
        colour=rng.normal(0, 9, (5, channels)).astype(np.float32) if colour else None,
        indices=np.arange(5),
    )


def expected(batch, mean, size, scale, border):
    found = np.zeros((len(batch.labels), mean.shape[2], size + border, size + border))
    for n, picture in enumerate(batch.pictures):
        t, l = batch.top[n], batch.left[n]
        cut = (picture - mean.astype(np.float64))[t : t + size, l : l + size]
        cut = cut[:, ::-1] if batch.flip[n] else cut
        cut = cut + (0 if batch.colour is None else batch.colour[n])
        found[n, :, :size, :size] = scale * cut.transpose(2, 0, 1)
    return found


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("second", [None, "cpu", "cpu:1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_net_sees(border, colour, second, channels, rng):
    """noise_scale counts with noise alone; a second device gets the same; a mean is kept."""
    given = batch(rng, channels, colour)
    mean = rng.normal(120, 30, (7, 10, channels)).astype(np.float32)
    kept = mean.copy()
    device = None if second is None else tinynet.device(second)
    make = Inputs("cpu", mean, 4, 0.5, device, border, noise_scale=3.0)
    mean[...] = 0  # the caller's own, again
    x, labels = make(given)
    wanted = expected(given, kept, 4, 1.5 if colour else 0.5, border)
    pair = x if second == "cpu:1" else (x,)
    assert isinstance(x, tuple) == (second == "cpu:1")
    for each, name in zip(pair, ("cpu", "cpu:1"), strict=False):
        assert each.device == tinynet.device(name) and each.dtype == np.float32
        np.testing.assert_allclose(each.numpy(), wanted, rtol=1e-4, atol=1e-3)
        assert (each.numpy()[:, :, 4:] == 0).all() and (each.numpy()[..., 4:] == 0).all()
    assert labels.device == tinynet.device("cpu") and labels.numpy().tolist() == [3, 0, 1, 2, 3]


def test_pictures_are_seen_through_their_centre(rng):
    """Of 7 x 10 through 4: one row above, three columns at the left."""
    pictures = rng.integers(0, 256, (2, 7, 10, 3), np.uint8)
    found = batch_of(list(pictures), 4)
    np.testing.assert_array_equal(found.pictures, pictures)
    assert (found.top.tolist(), found.left.tolist()) == ([1, 1], [3, 3])
    assert not found.flip.any() and found.colour is None and found.indices.tolist() == [0, 1]


def test_the_views_of_a_picture_that_is_no_square(rng):
    """Corners and centre, then the same mirrored; whatever the batch was cut to before."""
    given = batch(rng, colour=False)
    seen = [(v.top.tolist(), v.left.tolist(), v.flip.tolist()) for v in views_of(given, 4)]
    places = [(0, 0), (0, 6), (3, 0), (3, 6), (1, 3)]
    assert seen == [
        ([top] * 5, [left] * 5, [flip] * 5) for flip in (False, True) for top, left in places
    ]
    assert all(view.pictures is given.pictures for view in views_of(given, 4))


def test_each_net_sees_its_own_inputs_and_none_is_recorded(rng):
    """Two with one way to make them share the tensor; the mean is of the softmax outputs."""
    given, seen = batch(rng, colour=False), []

    def net(number):
        def model(x):
            seen.append((number, x, is_grad_enabled()))
            return Tensor(x.data.mean(axis=(2, 3)), x.device)

        return model

    means = [np.full((7, 10, 3), value, np.float32) for value in (0, 50)]
    one, other = (Inputs("cpu", mean, 4, 0.01) for mean in means)
    found = probabilities([net(k) for k in range(3)], given, [one, other, one])
    assert [number for number, _, _ in seen] == [0, 1, 2] and seen[0][1] is seen[2][1]
    assert not any(recorded for _, _, recorded in seen)
    shares = []
    for number, make in enumerate((one, other, one)):
        x = make(given)[0].numpy()
        np.testing.assert_array_equal(seen[number][1].numpy(), x)
        e = np.exp(x.mean(axis=(2, 3), dtype=np.float64))
        shares.append(e / e.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, np.mean(shares, axis=0), rtol=1e-5)


def test_a_file_is_cut_to_a_square_as_high_as_the_set(tmp_path, rng):
    """Its shorter side becomes that height; grey is that of all three channels."""
    pixels = rng.integers(0, 256, (6, 10, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    found = read_picture(tmp_path / "p.png", (6, 99, 3))
    np.testing.assert_array_equal(found, pixels[:, 2:8])
    grey = read_picture(tmp_path / "p.png", (6, 99, 1))
    assert grey.shape == (6, 6, 1)
    by_hand = pixels[:, 2:8] @ [0.299, 0.587, 0.114]  # ITU-R 601-2, as Pillow's "L"
    assert abs(grey[:, :, 0] - by_hand).max() <= 1


def test_a_batch_keeps_what_it_is_not_asked_to_change(rng):
    given = batch(rng)
    before = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
    copies = {k: np.copy(v) for k, v in before.items() if isinstance(v, np.ndarray)}
    Inputs("cpu", np.zeros((7, 10, 3), np.float32), 4, border=1)(given)
    for name, value in copies.items():
        np.testing.assert_array_equal(before[name], value)
