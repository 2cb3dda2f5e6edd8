"""The kernels compile for GPUs that are not here; test_one_pass.py checks what they compute."""

import os
import subprocess
import sys

import pytest

CODE = '''
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from asl_det.losses.backends import triton as kernels

def compile(kernel, pointers, constants, target):
    signature = {n: 'constexpr' if n in constants else pointers.get(n, 'fp32')
                 for n in kernel.arg_names}
    built = triton.compile(ASTSource(kernel, signature, constexprs=constants), target=target)
    assert 'cubin' in built.asm

for capability in (80, 90):
    target = GPUTarget('cuda', capability, 32)
    for dtype, dense, margin, gamma in (('fp32', False, True, 4), ('bf16', True, False, -1)):
        floats = ('row_weight', 'col_weight', 'entry_weight', 'upstream', 'factor', 'values',
                  'sums')
        pointers = dict({n: '*fp32' for n in floats}, logits='*' + dtype, grad='*' + dtype,
                        targets='*fp32' if dense else '*i64', entries='i64', cols='i32')
        flags = {n: True for n in kernels._one_pass_kernel.arg_names
                 if n.startswith(('HAS_', 'WANT_'))}
        constants = dict(flags, GAMMA_POS=0, GAMMA_NEG=gamma, MARGIN=margin, CONSTANT=not margin,
                         DENSE=dense, BLOCK=kernels.BLOCK, SUMS=kernels.SUMS)
        compile(kernels._one_pass_kernel, pointers, constants, target)
        compile(kernels._scale_kernel, dict(grad='*' + dtype, factor='*fp32', entries='i32'),
                dict(BLOCK=kernels.BLOCK), target)
print('compiled')
'''


def test_the_kernels_compile_for_ampere_and_hopper(tmp_path):
    pytest.importorskip('triton.backends')
    script = tmp_path / 'compile_kernels.py'
    script.write_text(CODE)
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path))
    environment.pop('TRITON_INTERPRET', None)
    result = subprocess.run([sys.executable, '-W', 'ignore', str(script)], capture_output=True,
                            text=True, env=environment)
    assert result.stdout.strip() == 'compiled', result.stderr[-2000:]
