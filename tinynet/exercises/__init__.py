"""Exercises: write a part of backprop yourself, and see which mistake it has, if it has one.

    python -m tinynet.exercises

One file an exercise; each holds the solution, the known mistakes with their hints, and what checks
them. exercise.py says what an exercise is, checker.py how one is checked.
"""

from tinynet.exercises import (
    accumulate,
    central_difference,
    col2im,
    conv2d_backward,
    copy_backward,
    cross,
    cross_entropy_backward,
    dropout_backward,
    im2col,
    local_response_norm_backward,
    matmul_backward,
    max_pool2d_backward,
    sgd_step,
    unbroadcast,
    walk,
)

# in the order of the chapters
EXERCISES = {
    file.EXERCISE.name: file.EXERCISE
    for file in (
        accumulate, walk, unbroadcast, matmul_backward, central_difference, cross_entropy_backward,
        im2col, col2im, conv2d_backward, max_pool2d_backward, local_response_norm_backward,
        dropout_backward, sgd_step, copy_backward, cross,
    )
}  # fmt: skip
