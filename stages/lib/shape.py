"""The shape of a LLaMA and what can be counted from it; imports no torch and reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from stages.lib.config import Config, HumanFloat, HumanInt, either

Count = Annotated[HumanInt, Field(ge=1)]
Factor = Annotated[HumanFloat, Field(gt=0)]


class RopeScaling(Config):
    """How rotary positions are stretched over a longer context, under transformers' names and with its formulas.

    `linear` divides every frequency by `factor` (Chen et al. 2023). `llama3` does so to wavelengths beyond
    `original_max_position_embeddings / low_freq_factor`, leaves those below `.../ high_freq_factor` alone and blends
    between (Llama 3.1; transformers' `_compute_llama3_parameters`).
    """

    rope_type: Literal["linear", "llama3"] = Field(validation_alias=either("rope_type", "type"))
    factor: Annotated[HumanFloat, Field(ge=1)]
    low_freq_factor: Factor | None = None
    high_freq_factor: Factor | None = None
    original_max_position_embeddings: Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> RopeScaling:
        names = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        given = [name for name in names if getattr(self, name) is not None]
        if self.rope_type == "linear" and given:
            raise ValueError(f"linear scaling takes no {' and no '.join(given)}")
        if self.rope_type == "llama3":
            if lacking := [name for name in names if name not in given]:
                raise ValueError(f"llama3 scaling needs {' and '.join(lacking)}")
            if not (self.low_freq_factor or 0) < (self.high_freq_factor or 0):
                raise ValueError("low_freq_factor must be less than high_freq_factor")
        return self


class Shape(Config):
    """Hugging Face's names for the sizes of a LLaMA, each with its short alias.

    `qk_norm`: an RMSNorm of each head's queries and keys before they are rotated, as in Qwen3; such a model is exported
    as a Qwen3. `rope_scaling`: see RopeScaling. Both are off unless asked for.
    """

    hidden_size: Count = Field(validation_alias=either("hidden_size", "d_model"))
    num_hidden_layers: Count = Field(validation_alias=either("num_hidden_layers", "layers"))
    num_attention_heads: Count = Field(validation_alias=either("num_attention_heads", "heads"))
    num_key_value_heads: Count = Field(validation_alias=either("num_key_value_heads", "kv_heads"))
    intermediate_size: Count = Field(validation_alias=either("intermediate_size", "ffn"))
    vocab_size: Count
    max_position_embeddings: Count = Field(validation_alias=either("max_position_embeddings", "context"))
    rms_norm_eps: Annotated[HumanFloat, Field(gt=0)] = 1e-5
    rope_theta: Annotated[HumanFloat, Field(gt=1)] = 10000.0
    tie_word_embeddings: bool = Field(default=True, validation_alias=either("tie_word_embeddings", "tied"))
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None

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

    @property
    def architecture(self) -> str:
        """The class of transformers that computes it."""
        return "Qwen3ForCausalLM" if self.qk_norm else "LlamaForCausalLM"

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
                    *(((f"self_attn.{side}_norm", (self.head_dim,)) for side in "qk") if self.qk_norm else ()),
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
        options = ", q and k normed" if self.qk_norm else ""
        if self.rope_scaling is not None:
            options += f", RoPE {self.rope_scaling.rope_type} x {self.rope_scaling.factor:g}"
        return (
            f"llama, {self.num_hidden_layers} layers, {self.hidden_size} wide, {self.num_attention_heads} heads, "
            f"{self.num_key_value_heads} KV heads, FFN {self.intermediate_size}, "
            f"vocabulary {self.vocab_size:,}, {tied}{options}    {self.parameters():,} parameters"
        )


def shape_of_hf(values: Mapping[str, Any]) -> Shape:
    """The Shape in a Hugging Face config.json; ValueError when it is no LLaMA or Qwen3 that this code computes."""
    kind = values.get("model_type")
    wanted = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
    odd = {key: values[key] for key, value in wanted.items() if values.get(key, value) != value}
    if kind not in ("llama", "qwen3"):
        odd["model_type"] = kind
    if odd:
        raise ValueError(f"not a LLaMA without biases: {odd if kind else 'no model_type'}")
    rope = values.get("rope_parameters") or {}
    known = {name: values[name] for name in Shape.model_fields if name in values}
    known.setdefault("rope_theta", rope.get("rope_theta", Shape.model_fields["rope_theta"].default))
    known |= {"qk_norm": kind == "qwen3", "rope_scaling": _scaling(values.get("rope_scaling") or rope)}
    shape = Shape(**known)
    if values.get("head_dim") not in (None, shape.head_dim):
        raise ValueError(f"head_dim {values['head_dim']} is not hidden_size / num_attention_heads")
    return shape


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    """transformers 5 keeps the base beside the scaling, and writes the default as a type of its own."""
    if rope.get("rope_type", rope.get("type", "default")) == "default":
        return None
    found = {key: value for key, value in rope.items() if key != "rope_theta"}
    if "rope_type" in found:
        found.pop("type", None)
    try:
        return RopeScaling.model_validate(found)
    except ValidationError:
        raise ValueError(f"rotary positions scaled as {dict(rope)} are not supported") from None
