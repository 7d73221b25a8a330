"""The networks as compiled loops over arrays: what a processor codes with, without PyTorch.

Those of a decoder are made of integers, and exact; those that only an encoder has, the enhancer, and what finds gradients are made of
parameters, and compute with numbers of bfloat16 (`rough.py`, `analysis.py`, `enhancer.py`, `synthesis.py`). Motion is found in `search.py`.

The same networks in PyTorch (`models/codec.py`) are for training and for GPUs; `encoder.py` and `codec.py` are the two sides of the codec here.
Arrays are (H, W, C), channels last, of float32, which hold exact numbers in a decoder (`models/exact.py`); rates are integers; there are no batches.
"""
