"""In and out: nets as ONNX files, and ONNX files as nets. Needs the package onnx.

    tinynet.onnx.export(net, example, "net.onnx")
    net = tinynet.onnx.load("net.onnx")

recording.py finds a net's graph by running it twice; writing.py has tinynet's operations as
ONNX's, for the file that writer.py makes. loading.py makes a Module of a file; reading.py and
windows.py have ONNX's operators as tinynet's, in the table of operators.py.
"""

from tinynet.onnx.exporting import export
from tinynet.onnx.loading import OnnxNet, load

__all__ = ["OnnxNet", "export", "load"]
