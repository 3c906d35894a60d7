"""The rooms of the package, and for every source file the tests that should notice a change of it.

A line: a file below tinynet/, or examples/... (or a pattern; the first that fits counts), then the
test files below tests/, then perhaps `-k` and which of their tests. The quickest come first. Files
that hold names alone have no line.
"""

# ruff: noqa: E501  (a line is a file and its tests)

from __future__ import annotations

import fnmatch
import functools
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_KERNELS = "core/test_ways.py core/test_cpu_kernels.py core/test_kernels_alike.py core/test_every_case.py core/test_as_defined.py core/test_gradcheck_table.py"
_NORMS = "core/test_batch_norm_and_losses.py"
_CALLS = "core/test_wrong_calls.py core/test_wrong_calls_of_all.py"
_OPERATIONS = f"{_CALLS} core/test_operations.py core/test_as_defined.py core/test_edges.py core/test_handed_on.py core/test_every_case.py core/test_gradcheck_table.py core/test_nn_optim.py core/test_tape_details.py"
_TAPE = "core/test_tape.py core/test_tensors.py core/test_walk.py core/test_tape_safety.py core/test_tape_details.py"
_RUN = "training/test_defaults.py training/test_figures.py training/test_loop.py training/test_fields.py training/test_edits.py training/test_trainer.py"
_PROGRAM = (
    "program/test_what_reaches_whom.py program/test_parts.py program/test_options.py "
    "program/test_runs.py program/test_batch_size.py data/test_views.py "
    "program/test_old_checkpoints.py program/test_crafted_checkpoints.py "
    "program/test_command_line.py training/test_whole_runs.py"
)
_CUDA = (
    "cuda/test_host.py cuda/test_steps.py cuda/test_norm_and_losses.py cuda/test_kernels.py "
    "cuda/test_parity.py"
)
_LOADING = "data/test_data_draws.py data/test_loader_options.py data/test_data_workers.py data/test_data_kinds.py"
_PREPARING = (
    "data/test_prepared_folder.py data/test_data_robust.py data/test_data_mistakes.py data/test_preparing.py "
    "data/test_reading_rules.py data/test_data_kinds.py data/test_repair.py data/test_crafted.py"
)
_READING = "data/test_reading_rules.py data/test_data_kinds.py data/test_decoding.py data/test_odd_pictures.py data/test_data_formats.py data/test_folders.py"

ROOMS = {
    "kernels": f"""
        kernels/conv2d.py {_KERNELS} core/test_winograd.py core/test_imports.py -k 'conv2d or threads or empty or winograd or nan or layout or every_pair'
        kernels/winograd.py core/test_winograd.py core/test_ways.py core/test_every_case.py -k 'conv or winograd or ways'
        kernels/im2col.py {_KERNELS} core/test_winograd.py -k 'conv2d or im2col or winograd or read_only or layout or every_pair'
        kernels/max_pool2d.py {_KERNELS} core/test_imports.py -k 'pool or threads or empty or read_only or layout or denormal or every_pair'
        kernels/avg_pool2d.py {_KERNELS} -k 'avg or threads or empty or read_only or layout or every_pair'
        kernels/local_response_norm.py {_KERNELS} -k 'response or threads or empty or nan or layout or every_pair'
        kernels/spatial_response_norm.py {_KERNELS} -k 'spatial or response or threads or empty or layout or every_pair'
        kernels/relu.py {_KERNELS} core/test_nn_optim.py -k 'relu or elementwise or threads or layout or every_pair'
        kernels/layout.py {_KERNELS}
        kernels/linear.py {_KERNELS} {_NORMS} -k 'product or linear or matmul or threads or empty or layout or every_pair'
        kernels/dropout.py {_KERNELS} -k 'dropout or threads or elementwise or every_pair'
        kernels/batch_norm.py {_NORMS} {_KERNELS} -k 'batch_norm or nan or empty or every_pair'
        kernels/adaptive_avg_pool2d.py core/test_as_defined.py core/test_every_case.py core/test_gradcheck_table.py core/test_kernels_alike.py -k 'adaptive or threads or innermost'
        kernels/gelu.py {_KERNELS} core/test_as_numpy.py -k 'gelu or elementwise or last_digits'
        kernels/*_loss.py core/test_as_defined.py core/test_gradcheck_table.py {_NORMS} core/test_operations.py
        kernels/bce_with_logits.py core/test_edges.py core/test_as_defined.py core/test_gradcheck_table.py {_NORMS} core/test_operations.py
        kernels/softmax.py core/test_edges.py {_KERNELS} -k 'softmax or in_common'
        kernels/cross_entropy.py core/test_edges.py {_KERNELS} {_NORMS} -k 'entropy or softmax or in_common'
        kernels/sigmoid.py {_KERNELS} core/test_edges.py -k 'elementwise or sigmoid or wide or large'
        kernels/tanh.py {_KERNELS} -k 'elementwise or tanh'
        kernels/pictures.py {_KERNELS} -k pictures
        kernels/clip.py core/test_optim_groups.py -k 'clip or norm'
        kernels/steps/sgd.py {_KERNELS} core/test_optim.py core/test_optim_groups.py -k 'sgd or rules'
        kernels/steps/*.py core/test_optim.py core/test_optim_groups.py
        kernels/attention.py core/test_attention.py core/test_as_defined.py core/test_every_case.py core/test_gradcheck_table.py -k 'attention'
        kernels/dilation.py core/test_dilation.py core/test_as_defined.py core/test_every_case.py -k 'dilation or conv2d'
        kernels/layer_norm.py core/test_layer_norm.py core/test_as_defined.py core/test_every_case.py -k layer_norm
        kernels/elementwise.py core/test_as_numpy.py core/test_operations.py core/test_edges.py core/test_gradcheck_table.py {_KERNELS}
        kernels/index.py core/test_as_numpy.py core/test_operations.py core/test_gradcheck_table.py core/test_every_case.py
        kernels/order.py core/test_cpu_kernels.py core/test_operations.py core/test_gradcheck_table.py core/test_counts.py core/test_walk.py core/test_every_case.py cuda/test_host.py
        kernels/backends.py cuda/test_installation.py cuda/test_host.py
        kernels/*.py {_KERNELS} {_NORMS} core/test_operations.py core/test_gradcheck_table.py
    """,
    "tape": f"""
        tensors.py {_TAPE} core/test_instead.py core/test_wrong_calls.py core/test_modules.py core/test_devices.py cuda/test_steps.py cuda/test_memory.py
        tape.py {_TAPE} core/test_every_case.py
        function.py {_TAPE} core/test_tape_details.py core/test_every_case.py core/test_profiler.py core/test_tracing.py drawing/test_reading.py core/test_devices.py {_CALLS}
        arithmetic/shapes.py core/test_edges.py core/test_as_numpy.py core/test_handed_on.py core/test_operations.py core/test_every_case.py core/test_gradcheck_table.py core/test_tape.py core/test_wrong_calls.py core/test_devices.py core/test_tape_safety.py core/test_tape_details.py cuda/test_host.py
        arithmetic/*.py core/test_edges.py core/test_wrong_calls_of_all.py core/test_profiler.py core/test_as_numpy.py core/test_handed_on.py core/test_operations.py core/test_every_case.py core/test_gradcheck_table.py core/test_tape.py core/test_wrong_calls.py core/test_devices.py core/test_tape_safety.py core/test_tape_details.py
        random.py core/test_devices.py core/test_wrong_calls.py
        tracer.py core/test_tracing.py drawing/test_reading.py
        recording.py core/test_tape_safety.py core/test_tape.py
        marks.py core/test_tape_details.py core/test_tape_safety.py core/test_tape.py
        holder.py core/test_tensor_mistakes.py core/test_exchange.py core/test_handed_on.py core/test_edges.py core/test_tensors.py core/test_tape.py
        creation.py core/test_as_numpy.py core/test_exchange.py core/test_instead.py core/test_tensor_mistakes.py parallel/test_rank_parts.py core/test_wrong_calls.py core/test_devices.py
        sharing.py core/test_tape_details.py parallel/test_rank_parts.py core/test_wrong_calls.py
        functions.py core/test_handed_on.py core/test_operations.py core/test_wrong_calls.py core/test_tensor_mistakes.py
        profiler.py core/test_profiler.py
        lock.py data/test_lock.py
        operations.py core/test_gradcheck_table.py core/test_operations.py core/test_wrong_calls_of_all.py
        saving.py core/test_saving.py training/test_disk.py training/test_checkpoint.py core/test_exchange.py
        errors.py core/test_wrong_calls.py
        *.py {_TAPE} core/test_handed_on.py core/test_instead.py core/test_operations.py core/test_tensor_mistakes.py core/test_wrong_calls.py core/test_devices.py
    """,
    "functional": f"""
        functional/losses.py {_OPERATIONS} {_NORMS} cuda/test_training.py
        functional/affine.py {_OPERATIONS} {_NORMS}
        functional/normalization.py {_OPERATIONS} {_NORMS}
        functional/pooling.py {_OPERATIONS} {_NORMS}
        functional/regularization.py {_OPERATIONS} core/test_devices.py core/test_tape_details.py parallel/test_rank_parts.py parallel/test_shared_steps.py
        functional/attention.py core/test_attention.py {_OPERATIONS}
        functional/convolution.py {_OPERATIONS} core/test_dilation.py
        functional/*.py {_OPERATIONS}
    """,
    "gradcheck": """
        gradcheck/cases/*.py core/test_gradcheck_table.py core/test_every_case.py core/test_wrong_calls.py core/test_wrong_calls_of_all.py
        gradcheck/*.py core/test_backwards_of_nets.py core/test_wrong_backwards.py core/test_right_backwards.py core/test_gradcheck.py core/test_gradcheck_refused.py core/test_gradcheck_table.py -k 'not every_operation'
    """,
    "nn": f"""
        nn/module.py core/test_layer_borders.py core/test_modules.py core/test_nn_optim.py
        nn/layers.py core/test_layer_borders.py core/test_tensor_mistakes.py core/test_nn_optim.py {_NORMS} core/test_wrong_calls.py core/test_modules.py
        nn/activation.py core/test_nn_optim.py core/test_modules.py core/test_operations.py
        nn/init.py core/test_nn_optim.py
        nn/attention.py core/test_attention.py core/test_layer_borders.py core/test_nn_optim.py
    """,
    "optim": """
        optim/lr_scheduler.py core/test_lr_scheduler.py core/test_optim_options.py
        optim/optimizer.py core/test_optim.py core/test_optim_groups.py core/test_optim_options.py core/test_wrong_calls.py cuda/test_steps.py
        optim/sgd.py core/test_optim.py core/test_optim_groups.py core/test_optim_options.py core/test_wrong_calls.py
        optim/*.py core/test_optim.py core/test_optim_groups.py core/test_optim_options.py
    """,
    "data": f"""
        data/background.py data/test_data_background.py {_LOADING}
        data/batch.py {_LOADING} data/test_data_mistakes.py
        data/dataset.py data/test_data_sets.py {_LOADING} data/test_data_mistakes.py data/test_prepared_folder.py
        data/loader.py {_LOADING} data/test_data_mistakes.py
        data/workers.py {_LOADING}
        data/matfile.py data/test_archives.py data/test_reading_rules.py data/test_data_kinds.py data/test_data_mistakes.py data/test_data_robust.py data/test_crafted.py
        data/tar.py data/test_archives.py data/test_data_formats.py {_PREPARING}
        data/imagenet.py data/test_archives.py {_PREPARING}
        data/prepare.py {_PREPARING}
        data/repair.py data/test_repair.py data/test_data_kinds.py data/test_preparing.py
        data/over_ranks.py data/test_over_ranks.py data/test_data_kinds.py data/test_preparing.py
        data/shards.py training/test_disk.py {_PREPARING}
        data/pictures.py {_READING} {_PREPARING}
        data/text.py data/test_text.py data/test_data_kinds.py data/test_reading_rules.py examples/test_gpt.py examples/test_transformer.py
        data/sequences.py data/test_text.py data/test_reading_rules.py examples/test_gpt.py examples/test_transformer.py
        data/progress.py data/test_crafted.py
        data/formats.py {_READING} data/test_prepared_folder.py data/test_archives.py data/test_data_mistakes.py
        data/folder.py {_READING} data/test_data_mistakes.py data/test_preparing.py data/test_data_robust.py
        data/fashion/cut.py data/test_data_mistakes.py
        data/*.py data/test_archives.py {_READING} data/test_data_robust.py data/test_data_mistakes.py data/test_crafted.py
    """,
    "training": f"""
        training/checkpoint.py training/test_disk.py training/test_checkpoint.py {_RUN}
        training/evaluate.py training/test_defaults.py training/test_evaluate.py training/test_inputs.py training/test_report_page.py training/test_trainer.py
        training/drawings.py training/test_drawings.py training/test_defaults.py program/test_shown.py
        training/features.py training/test_features.py training/test_defaults.py training/test_evaluate.py
        training/objective.py training/test_objective.py training/test_defaults.py
        training/inputs.py training/test_defaults.py training/test_evaluate.py training/test_inputs.py program/test_pictures.py cuda/test_uploads.py training/test_trainer.py
        training/measure.py training/test_defaults.py training/test_sheets.py training/test_report_page.py training/test_trainer.py
        training/metrics.py training/test_metrics.py training/test_disk.py training/test_report.py {_RUN}
        training/plots.py training/test_defaults.py training/test_plots.py training/test_sheets.py training/test_report_page.py training/test_evaluate.py
        training/report.py training/test_defaults.py training/test_report.py training/test_report_page.py training/test_disk.py
        training/signals.py training/test_signals.py training/test_trainer.py
        training/batch_size.py training/test_defaults.py program/test_batch_size.py
        training/saving.py {_RUN} program/test_crafted_checkpoints.py
        training/task.py training/test_task.py training/test_evaluate.py {_RUN}
        training/language.py training/test_language.py examples/test_gpt.py examples/test_bert.py examples/test_transformer.py
        training/console.py training/test_console.py training/test_terminal.py {_RUN}
        training/stopwatch.py training/test_console.py {_RUN}
        training/trainer.py {_RUN} training/test_damaged_data.py training/test_signals.py
        training/*.py {_RUN}
    """,
    "program": f"""
        program/pictures.py program/test_pictures.py data/test_views.py program/test_export_and_import.py {_PROGRAM} examples/test_resnet.py
        program/unlabelled.py program/test_rooms_of_data.py examples/test_history_parts.py examples/test_recipes.py {_PROGRAM}
        program/made.py program/test_rooms_of_data.py program/test_pictures.py examples/test_perceptron.py {_PROGRAM}
        program/shown.py program/test_shown.py program/test_rooms_of_data.py examples/test_perceptron.py {_PROGRAM}
        program/text.py program/test_rooms_of_data.py program/test_pictures.py data/test_text.py examples/test_gpt.py {_PROGRAM}
        program/published.py program/test_published.py program/test_starting.py program/test_pictures.py program/test_export_and_import.py against/test_foreign.py against/test_onnx.py
        program/exchange.py program/test_published.py program/test_export_and_import.py program/test_command_line.py
        program/together.py program/test_together.py parallel/test_rank_parts.py parallel/test_rank_faults.py {_PROGRAM}
        program/starting.py program/test_starting.py program/test_batch_size.py parallel/test_rank_parts.py {_PROGRAM}
        program/options.py program/test_options.py {_PROGRAM}
        program/commandline.py program/test_options.py program/test_export_and_import.py {_PROGRAM}
        program/runs.py program/test_runs.py {_PROGRAM} parallel/test_rank_parts.py
        program/recipe.py program/test_starting.py program/test_pictures.py {_PROGRAM}
        program/program.py {_PROGRAM} program/test_together.py program/test_export_and_import.py examples/test_variants.py
        program/*.py {_PROGRAM}
    """,
    "examples": f"""
        examples/alexnet.py examples/test_recipes.py examples/test_alexnet_network.py examples/test_variants.py examples/test_tools.py {_PROGRAM}
        examples/variants.py examples/test_recipes.py examples/test_variants.py examples/test_claims.py
        examples/prepare_imagenet.py examples/test_tools.py program/test_options.py data/test_data_mistakes.py data/test_preparing.py
        examples/*.py examples/test_tools.py program/test_options.py program/test_command_line.py
        examples/paper/*.py examples/test_claims_parts.py examples/test_claims.py examples/test_tools.py program/test_options.py
        examples/history/autoencoder.py examples/test_recipes.py examples/test_history_parts.py examples/test_autoencoder.py examples/test_tools.py
        examples/history/backprop.py examples/test_recipes.py examples/test_history_parts.py examples/test_backprop.py examples/test_tools.py
        examples/history/bert.py examples/test_recipes.py examples/test_history_parts.py examples/test_bert.py examples/test_tools.py
        examples/history/gan.py examples/test_recipes.py examples/test_history_parts.py examples/test_gan.py examples/test_tools.py
        examples/history/googlenet.py examples/test_recipes.py examples/test_history_parts.py examples/test_googlenet.py examples/test_tools.py
        examples/history/gpt.py examples/test_recipes.py examples/test_history_parts.py examples/test_gpt.py examples/test_tools.py
        examples/history/lenet5.py examples/test_recipes.py examples/test_history_parts.py examples/test_lenet5.py examples/test_tools.py
        examples/history/perceptron.py examples/test_recipes.py examples/test_history_parts.py examples/test_perceptron.py examples/test_tools.py
        examples/history/resnet.py examples/test_recipes.py examples/test_history_parts.py examples/test_resnet.py examples/test_tools.py
        examples/history/transformer.py examples/test_recipes.py examples/test_history_parts.py examples/test_transformer.py examples/test_tools.py
        examples/history/vae.py examples/test_recipes.py examples/test_history_parts.py examples/test_vae.py examples/test_tools.py
        examples/history/vgg.py examples/test_recipes.py examples/test_history_parts.py examples/test_vgg.py examples/test_tools.py
    """,
    "devices": f"""
        devices/scratch.py core/test_memory_pool.py core/test_devices.py {_KERNELS}
        devices/base.py core/test_devices.py cuda/test_host.py cuda/test_memory.py cuda/test_uploads.py
        devices/*.py core/test_devices.py core/test_memory_pool.py core/test_interrupts.py core/test_side_effects.py core/test_elsewhere.py
    """,
    "onnx": """
        onnx/*.py against/test_onnx_refused.py against/test_onnx_at_once.py against/test_onnx_forms.py against/test_onnx_export.py against/test_onnx.py
    """,
    "drawing": """
        drawing/* drawing/test_borders.py drawing/test_reading.py drawing/test_folding.py drawing/test_picture.py core/test_imports.py cuda/test_drawing_device.py
    """,
    "exercises": """
        exercises/*.py exercises/test_checker.py exercises/test_exercises.py
    """,
    "parallel": """
        parallel/factors.py parallel/test_team.py parallel/test_shared_steps.py parallel/test_bytes.py cuda/test_nccl.py
        parallel/nccl.py cuda/test_nccl.py parallel/test_rank_parts.py
        parallel/steps.py parallel/test_team.py parallel/test_shared_steps.py parallel/test_bytes.py parallel/test_rank_faults.py cuda/test_nccl.py
        parallel/ranks.py parallel/test_mpi_ranks.py parallel/test_rank_parts.py parallel/test_shared_steps.py parallel/test_rank_faults.py
        parallel/*.py parallel/test_rank_parts.py parallel/test_shared_steps.py parallel/test_bytes.py parallel/test_rank_faults.py
    """,
    "foreign": """
        foreign/beside.py against/test_beside_torch.py
        foreign/*.py against/test_foreign_forms.py against/test_foreign.py
    """,
    "cuda": f"""
        devices/cuda/installation.py cuda/test_installation.py
        devices/cuda/uploads.py cuda/test_uploads.py {_CUDA} cuda/test_training.py
        devices/cuda/memory.py cuda/test_memory.py {_CUDA}
        devices/cuda/*.py cuda/test_host.py cuda/test_memory.py cuda/test_uploads.py {_CUDA} cuda/test_training.py cuda/test_gradcheck_device.py
        kernels/cuda/steps/* cuda/test_steps.py cuda/test_host.py cuda/test_wide_indices.py
        kernels/cuda/clip.* cuda/test_kernels.py cuda/test_steps.py cuda/test_parity.py
        kernels/cuda/batch_norm.py cuda/test_norm_and_losses.py cuda/test_nccl.py {_CUDA}
        kernels/cuda/*.py {_CUDA} cuda/test_wide_indices.py
        kernels/cuda/*.cu* cuda/test_kernels.py cuda/test_norm_and_losses.py cuda/test_parity.py cuda/test_wide_indices.py cuda/test_host.py cuda/test_sources.py
    """,
}  # fmt: skip
_NAMES_ALONE = ("__init__.py", "operations.py")


@functools.cache
def _lines() -> list[tuple[str, str, list[str]]]:
    """(room, pattern, tests) of every line."""
    split = [
        (room, shlex.split(line))
        for room, text in ROOMS.items()
        for line in text.strip().splitlines()
    ]
    return [(room, pattern, tests) for room, (pattern, *tests) in split]


def _line_of(file: str) -> tuple[str, list[str]] | None:
    fits = (
        (room, tests)
        for room, pattern, tests in _lines()
        if fnmatch.fnmatch(file, pattern) and file.count("/") == pattern.count("/")
    )
    return next(fits, None)


def path_of(file: str) -> Path:
    """Where the file of a line lies, below the root of a working copy."""
    return Path(file) if file.startswith("examples/") else Path("tinynet", file)


def tests_of(file: str) -> list[str]:
    """Arguments for pytest. ValueError for a file that no tests are named for."""
    found = _line_of(file)
    if found is None or not found[1]:
        raise ValueError(f"{file}: expected a file that rooms.py names tests for")
    there = [t for t in found[1] if not t.endswith(".py") or (ROOT / "tests" / t).exists()]
    return list(dict.fromkeys(there))


def tests_gone() -> list[str]:
    """The test files named above that are not there: `tests_of` passes over them."""
    named = {t for _, _, tests in _lines() for t in tests if t.endswith(".py")}
    return sorted(t for t in named if not (ROOT / "tests" / t).exists())


def files_of(room: str, endings: tuple[str, ...] = (".py",)) -> list[str]:
    """The source files of a room, as its lines name them."""
    found = []
    for path in sorted((*(ROOT / "tinynet").rglob("*"), *(ROOT / "examples").rglob("*"))):
        file = path.relative_to(ROOT).as_posix().removeprefix("tinynet/")
        if path.suffix not in endings or path.name in _NAMES_ALONE or path.name == "__main__.py":
            continue
        line = _line_of(file)
        if line is not None and line[0] == room and line[1]:
            found.append(file)
    return found
