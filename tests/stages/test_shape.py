"""Counting a model without building it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stages.lib.shape import Shape, shape_of_hf

SIZES = [(12, 512, 8, 2, 2048, 62_403_072, 79_180_288), (16, 768, 12, 4, 3072, 163_603_200, 188_769_024),
         (24, 1024, 16, 4, 4096, 398_509_056, 432_063_488)]


def shape(**values: Any) -> Shape:
    return Shape(**{"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab_size": 290, "context": 16,
                    **values})


@pytest.mark.parametrize(("layers", "wide", "heads", "kv", "ffn", "tied", "untied"), SIZES)
def test_published_shapes_count_exactly(layers: int, wide: int, heads: int, kv: int, ffn: int, tied: int, untied: int) -> None:
    sizes = {"layers": layers, "d_model": wide, "heads": heads, "kv_heads": kv, "ffn": ffn, "vocab_size": 32768}
    assert shape(**sizes).parameters() == tied
    assert shape(**sizes, tie_word_embeddings=False).parameters() == untied
    assert shape(**sizes, tied=False) == shape(**sizes, tie_word_embeddings=False)
    assert shape(**sizes, qk_norm=True).parameters() == tied + layers * 2 * wide // heads


def test_short_names_and_hugging_face_names_mean_the_same() -> None:
    assert shape() == shape_of_hf({"model_type": "llama", **shape().model_dump()})


@pytest.mark.parametrize(("wrong", "said"), [({"heads": 5}, "even multiple"), ({"kv_heads": 3}, "multiple of num_key"),
                                             ({"d_model": 36, "heads": 12, "kv_heads": 12}, "even multiple")])
def test_heads_that_do_not_divide_are_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        shape(**wrong)


@pytest.mark.parametrize("odd", [{"model_type": "qwen2"}, {"attention_bias": True}, {"hidden_act": "gelu"},
                                 {"rope_scaling": {"type": "yarn"}}, {"head_dim": 5}])
def test_a_model_this_code_would_compute_wrongly_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"LLaMA|rotary|head_dim"):
        shape_of_hf({"model_type": "llama", **shape().model_dump(), **odd})


@pytest.mark.parametrize(("scaling", "said"), [
    ({"rope_type": "linear", "factor": 0.5}, "greater than or equal to 1"),
    ({"rope_type": "linear", "factor": 2, "low_freq_factor": 1}, "linear scaling takes no low_freq_factor"),
    ({"rope_type": "llama3", "factor": 2}, "llama3 scaling needs low_freq_factor and high_freq_factor"),
    ({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4,
      "original_max_position_embeddings": 8}, "must be less than high_freq_factor"),
    ({"rope_type": "yarn", "factor": 2}, "'linear' or 'llama3'"),
])
def test_a_scaling_that_is_not_whole_is_refused(scaling: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        shape(rope_scaling=scaling)


@pytest.mark.torch
def test_the_count_is_what_torch_builds() -> None:
    from stages.lib.model import Llama

    for tied, normed in ((True, False), (False, False), (True, True)):
        one = shape(tie_word_embeddings=tied, qk_norm=normed)
        built = {name: tuple(weight.shape) for name, weight in Llama(one).named_parameters()}
        assert built == dict(one.tensors())
