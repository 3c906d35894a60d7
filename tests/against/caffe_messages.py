"""Messages of Caffe's, written by Google's protobuf: the fields a .caffemodel has, with the names,
numbers and types they have in BVLC/caffe's src/caffe/proto/caffe.proto.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("google.protobuf")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402

ONE, MANY = 1, 3  # optional, repeated
DOUBLE, FLOAT, INT64, INT32, STRING, MESSAGE = 1, 2, 3, 5, 9, 11
# message -> (field, number, label, type, packed or the message's name)
FIELDS = {
    "BlobShape": [("dim", 1, MANY, INT64, True)],
    "BlobProto": [
        ("shape", 7, ONE, MESSAGE, "BlobShape"), ("data", 5, MANY, FLOAT, True),
        ("diff", 6, MANY, FLOAT, True), ("double_data", 8, MANY, DOUBLE, True),
        ("num", 1, ONE, INT32, None), ("channels", 2, ONE, INT32, None),
        ("height", 3, ONE, INT32, None), ("width", 4, ONE, INT32, None),
    ],
    "LayerParameter": [
        ("name", 1, ONE, STRING, None), ("type", 2, ONE, STRING, None),
        ("bottom", 3, MANY, STRING, None), ("top", 4, MANY, STRING, None),
        ("blobs", 7, MANY, MESSAGE, "BlobProto"),
    ],
    "V1LayerParameter": [
        ("bottom", 2, MANY, STRING, None), ("top", 3, MANY, STRING, None),
        ("name", 4, ONE, STRING, None), ("type", 5, ONE, INT32, None),
        ("blobs", 6, MANY, MESSAGE, "BlobProto"),
    ],
    "NetParameter": [
        ("name", 1, ONE, STRING, None), ("layer", 100, MANY, MESSAGE, "LayerParameter"),
        ("layers", 2, MANY, MESSAGE, "V1LayerParameter"), ("input", 3, MANY, STRING, None),
        ("input_dim", 4, MANY, INT32, None),
    ],
}  # fmt: skip


def _made():
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, more in fields:
            added = message.field.add(name=field, number=number, label=label, type=kind)
            if kind == MESSAGE:
                added.type_name = f".caffe.{more}"
            elif more:
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in FIELDS
    }


MESSAGES = _made()


def caffemodel(layers: dict[str, list[np.ndarray]], old: bool) -> bytes:
    """A file with the blobs of these layers, and some without. old: as Caffe wrote before 2014."""
    net = MESSAGES["NetParameter"](name="AlexNet", input=["data"], input_dim=[10, 3, 227, 227])
    for name, blobs in layers.items():
        several = net.layers if old else net.layer
        layer = several.add(name=name, bottom=["before"], top=[name])
        several.add(name=f"relu_{name}", bottom=[name], top=[name])
        for array in blobs:
            blob = layer.blobs.add(data=array.ravel().tolist())
            if old:
                sizes = [1] * (4 - array.ndim) + list(array.shape)
                blob.num, blob.channels, blob.height, blob.width = sizes
            else:
                blob.shape.dim.extend(array.shape)
    return net.SerializeToString()
