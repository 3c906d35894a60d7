"""The mathematics on plain NumPy arrays: one file a kernel, forward and backward side by side.

`..._definition` in such a file is the formula in plain loops: slow, short, and hard to get wrong.
The tests prove the fast way equal to it, and backward to its derivative.

`tinynet.kernels.cuda` has the same names for CuPy arrays. Arguments are checked above, in
tinynet.functional.
"""

from tinynet.kernels.adaptive_avg_pool2d import (
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
)
from tinynet.kernels.attention import attention_backward, attention_forward
from tinynet.kernels.avg_pool2d import avg_pool2d_backward, avg_pool2d_forward
from tinynet.kernels.batch_norm import batch_norm_backward, batch_norm_forward
from tinynet.kernels.bce_with_logits import bce_with_logits_backward, bce_with_logits_forward
from tinynet.kernels.clip import square_sum
from tinynet.kernels.conv2d import (
    conv2d_backward,
    conv2d_each_backward,
    conv2d_each_forward,
    conv2d_forward,
)
from tinynet.kernels.cross_entropy import cross_entropy_backward, cross_entropy_forward
from tinynet.kernels.dropout import dropout_backward, dropout_forward
from tinynet.kernels.elementwise import *
from tinynet.kernels.gelu import (
    gelu_backward,
    gelu_forward,
    gelu_tanh_backward,
    gelu_tanh_forward,
)
from tinynet.kernels.im2col import col2im, im2col
from tinynet.kernels.index import index_backward
from tinynet.kernels.layer_norm import layer_norm_backward, layer_norm_forward
from tinynet.kernels.linear import linear_backward, linear_forward, matmul
from tinynet.kernels.local_response_norm import (
    local_response_norm_backward,
    local_response_norm_forward,
)
from tinynet.kernels.max_pool2d import max_pool2d_backward, max_pool2d_forward
from tinynet.kernels.mse_loss import mse_loss_backward, mse_loss_forward
from tinynet.kernels.nll_loss import nll_loss_backward, nll_loss_forward
from tinynet.kernels.pictures import pictures_forward
from tinynet.kernels.relu import relu_backward, relu_forward
from tinynet.kernels.sigmoid import sigmoid_backward, sigmoid_forward
from tinynet.kernels.softmax import (
    log_softmax_backward,
    log_softmax_forward,
    softmax_backward,
    softmax_forward,
)
from tinynet.kernels.spatial_response_norm import (
    spatial_response_norm_backward,
    spatial_response_norm_forward,
)
from tinynet.kernels.steps import *
from tinynet.kernels.tanh import tanh_backward, tanh_forward
from tinynet.kernels.upsample2d import upsample2d_backward, upsample2d_forward
