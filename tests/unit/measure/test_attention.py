import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.measure.target import attention_kernel


def test_the_fused_kernel_is_named() -> None:
    q = torch.rand(1, 2, 8, 16)
    assert attention_kernel(lambda: F.scaled_dot_product_attention(q, q, q)) == (
        "flash_attention_for_cpu"
    )


def test_attention_by_hand_is_unfused() -> None:
    q = torch.rand(1, 2, 8, 16)
    assert attention_kernel(lambda: (q @ q.transpose(2, 3)).softmax(-1) @ q) == "unfused"


def test_no_attention_has_no_name() -> None:
    layer = nn.Conv2d(1, 2, 3)
    assert attention_kernel(lambda: layer(torch.rand(1, 1, 5, 5))) == ""
