"""Lets vLLM for CPUs take new weights; passed to ms-swift as ``--external_plugins``.

vLLM packs the weights of linear layers for oneDNN and drops the originals
(``dispatch_cpu_unquantized_gemm`` in ``vllm/model_executor/layers/utils.py``); ms-swift's first
weight sync then ends with ``'Parameter' object has no attribute 'weight_loader'``.
"""

from vllm import _custom_ops  # pyright: ignore[reportMissingImports]

_custom_ops._supports_onednn = False
