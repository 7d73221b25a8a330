"""The networks of a decoder as compiled loops over arrays: what a processor codes with, without PyTorch.

The same networks in PyTorch (`models/codec.py`) are for training and for GPUs; where these here exist, the others call them.
Arrays are (H, W, C), channels last, of float32 that hold exact numbers (`models/exact.py`); rates are integers; there are no batches.
"""
