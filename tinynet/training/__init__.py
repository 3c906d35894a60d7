"""The training of any network, whatever its batches are.

task.py says what a batch is (Classification: pictures and their classes), trainer.py is the loop,
saving.py what a run needs to go on, replay.py the search for the first NaN, console.py what is
printed. The other files measure, evaluate and draw.
"""
