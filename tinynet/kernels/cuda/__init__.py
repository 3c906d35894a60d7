"""The kernels of tinynet.kernels for CuPy arrays: the same names, arguments and results.

The mathematics is in CUDA C, in the `.cu` files; each `.py` beside one launches it. Matrix products
go to cuBLAS.
"""

from tinynet.kernels.cuda.adaptive_avg_pool2d import (
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
)
from tinynet.kernels.cuda.attention import attention_backward, attention_forward
from tinynet.kernels.cuda.batch_norm import batch_norm_backward, batch_norm_forward
from tinynet.kernels.cuda.bce_with_logits import (
    bce_with_logits_backward,
    bce_with_logits_forward,
)
from tinynet.kernels.cuda.clip import square_sum
from tinynet.kernels.cuda.conv2d import (
    conv2d_backward,
    conv2d_each_backward,
    conv2d_each_forward,
    conv2d_forward,
)
from tinynet.kernels.cuda.dropout import dropout_backward, dropout_forward
from tinynet.kernels.cuda.elementwise import *
from tinynet.kernels.cuda.im2col import col2im, im2col
from tinynet.kernels.cuda.index import index_backward
from tinynet.kernels.cuda.layer_norm import layer_norm_backward, layer_norm_forward
from tinynet.kernels.cuda.linear import linear_backward, linear_forward, matmul
from tinynet.kernels.cuda.mse_loss import mse_loss_backward, mse_loss_forward
from tinynet.kernels.cuda.nll_loss import nll_loss_backward, nll_loss_forward
from tinynet.kernels.cuda.pictures import pictures_forward
from tinynet.kernels.cuda.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)
from tinynet.kernels.cuda.response_norm import (
    local_response_norm_backward,
    local_response_norm_forward,
    spatial_response_norm_backward,
    spatial_response_norm_forward,
)
from tinynet.kernels.cuda.softmax import (
    cross_entropy_backward,
    cross_entropy_forward,
    log_softmax_backward,
    log_softmax_forward,
    softmax_backward,
    softmax_forward,
)
from tinynet.kernels.cuda.steps import *
from tinynet.kernels.cuda.upsample2d import upsample2d_backward, upsample2d_forward
