"""In and out: nets as ONNX files, and ONNX files as nets. Needs the package onnx.

    tinynet.onnx.export(net, example, "net.onnx")
    net = tinynet.onnx.load("net.onnx")

recording.py finds a net's graph by running it twice; writing.py has tinynet's operations as
ONNX's, reading.py ONNX's as tinynet's.
"""

from tinynet.onnx.exporting import export

__all__ = ["export"]
