"""The shape of a LLaMA and what can be counted from it; imports no torch and reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from stages.lib.config import Config, HumanFloat, HumanInt, either

Count = Annotated[HumanInt, Field(ge=1)]


class Shape(Config):
    """Hugging Face's names for the sizes of a LLaMA, each with its short alias."""

    hidden_size: Count = Field(validation_alias=either("hidden_size", "d_model"))
    num_hidden_layers: Count = Field(validation_alias=either("num_hidden_layers", "layers"))
    num_attention_heads: Count = Field(validation_alias=either("num_attention_heads", "heads"))
    num_key_value_heads: Count = Field(validation_alias=either("num_key_value_heads", "kv_heads"))
    intermediate_size: Count = Field(validation_alias=either("intermediate_size", "ffn"))
    vocab_size: Count
    max_position_embeddings: Count = Field(validation_alias=either("max_position_embeddings", "context"))
    rms_norm_eps: Annotated[HumanFloat, Field(gt=0)] = 1e-5
    rope_theta: Annotated[HumanFloat, Field(gt=1)] = 10000.0
    tie_word_embeddings: bool = True

    @model_validator(mode="after")
    def _divides(self) -> Shape:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if self.hidden_size % (2 * heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads {heads}")
        if heads % kv_heads:
            raise ValueError(f"num_attention_heads {heads} must be a multiple of num_key_value_heads {kv_heads}")
        return self

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads

    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Every weight by its Hugging Face name, matrices as (out, in); a tied head is not listed twice."""
        wide, ffn, kv = self.hidden_size, self.intermediate_size, self.num_key_value_heads * self.head_dim
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, wide)}
        for layer in range(self.num_hidden_layers):
            found |= {
                f"model.layers.{layer}.{name}.weight": sizes
                for name, sizes in (
                    ("input_layernorm", (wide,)),
                    ("self_attn.q_proj", (wide, wide)),
                    ("self_attn.k_proj", (kv, wide)),
                    ("self_attn.v_proj", (kv, wide)),
                    ("self_attn.o_proj", (wide, wide)),
                    ("post_attention_layernorm", (wide,)),
                    ("mlp.gate_proj", (ffn, wide)),
                    ("mlp.up_proj", (ffn, wide)),
                    ("mlp.down_proj", (wide, ffn)),
                )
            }
        found["model.norm.weight"] = (wide,)
        if not self.tie_word_embeddings:
            found["lm_head.weight"] = (self.vocab_size, wide)
        return found

    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(sizes[0] * (sizes[1] if len(sizes) > 1 else 1) for sizes in self.tensors().values())

    def text(self) -> str:
        """One line for a person."""
        tied = "tied" if self.tie_word_embeddings else "untied"
        return (
            f"llama, {self.num_hidden_layers} layers, {self.hidden_size} wide, {self.num_attention_heads} heads, "
            f"{self.num_key_value_heads} KV heads, FFN {self.intermediate_size}, "
            f"vocabulary {self.vocab_size:,}, {tied}    {self.parameters():,} parameters"
        )


def shape_of_hf(values: Mapping[str, Any]) -> Shape:
    """The Shape in a Hugging Face config.json; ValueError when it is no LLaMA that this code computes."""
    wanted = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    odd = {key: values[key] for key, value in wanted.items() if values.get(key, value) != value}
    if odd or "model_type" not in values:
        raise ValueError(f"not a LLaMA without biases: {odd or 'no model_type'}")
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or values.get("rope_scaling"):
        raise ValueError("scaled rotary positions are not supported")
    known = {name: values[name] for name in Shape.model_fields if name in values}
    known.setdefault("rope_theta", rope.get("rope_theta", Shape.model_fields["rope_theta"].default))
    shape = Shape(**known)
    if values.get("head_dim") not in (None, shape.head_dim):
        raise ValueError(f"head_dim {values['head_dim']} is not hidden_size / num_attention_heads")
    return shape
