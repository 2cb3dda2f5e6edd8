"""Stand-ins for mmcv's compiled operators, named as in ``mmcv.ops``.

Names, argument order and in-place results are those that ``mmcv.ops`` of
mmcv 2.x calls; values and gradients are those of its C++ and CUDA kernels.
The work is done by torchvision and torch, on CPU and CUDA.
"""
