"""The architecture of a decoder-only transformer, and the parameters that follow from it."""

from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PerLayer(NamedTuple):
    """Parameters of the parts of one layer."""

    attention: int
    dense_mlp: int  # of a dense layer
    shared: int  # experts that every token passes, in an MoE layer
    expert: int  # one routed expert
    router: int
    norms: int


class ModelSpec(BaseModel):
    """Architecture of one model, in the terms of its ``config.json``.

    Attention is grouped-query (``kv_heads``) or, with ``kv_lora_rank``, multi-head latent (MLA). ``sliding_layers``
    of the layers attend to a window of ``sliding_window`` tokens (chunked local attention counts as such).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    model_type: str = "llama"
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    attention_heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0, description="longest sequence [token]")
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    qk_norm: bool = False
    experts: int = Field(default=0, ge=0)
    experts_per_token: int = Field(default=0, ge=0)
    moe_intermediate_size: int = Field(default=0, ge=0)
    shared_experts: int = Field(default=0, ge=0)
    first_dense_layers: int = Field(default=0, ge=0)
    moe_layer_step: int = Field(default=1, gt=0, description="every n-th layer is MoE, the last of each n")
    kv_lora_rank: int = Field(default=0, ge=0)
    q_lora_rank: int = Field(default=0, ge=0)
    qk_rope_head_dim: int = Field(default=0, ge=0)
    qk_nope_head_dim: int = Field(default=0, ge=0)
    v_head_dim: int = Field(default=0, ge=0)
    sliding_window: int = Field(default=0, ge=0, description="[token]; 0: none")
    sliding_layers: int = Field(default=0, ge=0)
    quantization: str = Field(default="", description="of the published weights: '', fp8, mxfp4, awq, gptq")
    published_parameters: float | None = Field(default=None, gt=0, description="as its makers state")
    source: str = "defined by the user"
    date: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.attention_heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} does not divide attention_heads={self.attention_heads}")
        if self.sliding_layers > self.layers:
            raise ValueError(f"sliding_layers={self.sliding_layers} exceeds layers={self.layers}")
        if self.first_dense_layers > self.layers:
            raise ValueError(f"first_dense_layers={self.first_dense_layers} exceeds layers={self.layers}")
        if self.sliding_layers and not self.sliding_window:
            raise ValueError(f"sliding_layers={self.sliding_layers} needs sliding_window")
        if self.experts and not 0 < self.experts_per_token <= self.experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} must be between 1 and experts={self.experts}")
        if self.experts and not self.moe_intermediate_size:
            raise ValueError(f"experts={self.experts} needs moe_intermediate_size")
        if self.kv_lora_rank and not (self.qk_rope_head_dim and self.qk_nope_head_dim and self.v_head_dim):
            raise ValueError("kv_lora_rank needs qk_rope_head_dim, qk_nope_head_dim and v_head_dim")
        return self

    @property
    def mla(self) -> bool:
        return self.kv_lora_rank > 0

    @property
    def moe_layers(self) -> int:
        return (self.layers - self.first_dense_layers) // self.moe_layer_step if self.experts else 0

    @property
    def full_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layers - self.sliding_layers

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim if self.mla else self.head_dim

    @property
    def per_layer(self) -> PerLayer:
        h, heads = self.hidden_size, self.attention_heads
        if self.mla:
            q = heads * self.qk_head_dim
            attention = h * self.q_lora_rank + self.q_lora_rank * (q + 1) if self.q_lora_rank else h * q
            attention += h * (self.kv_lora_rank + self.qk_rope_head_dim) + self.kv_lora_rank
            attention += self.kv_lora_rank * heads * (self.qk_nope_head_dim + self.v_head_dim)
            attention += heads * self.v_head_dim * h
        else:
            q, kv = heads * self.head_dim, self.kv_heads * self.head_dim
            attention = 2 * h * q + 2 * h * kv
            attention += (q + 2 * kv if self.attention_bias else 0) + (2 * self.head_dim if self.qk_norm else 0)
        expert = 3 * h * self.moe_intermediate_size
        return PerLayer(
            attention=attention,
            dense_mlp=3 * h * self.intermediate_size,
            shared=self.shared_experts * expert,
            expert=expert,
            router=h * self.experts,
            norms=2 * h,
        )

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    def _count(self, experts: int) -> int:
        p, moe = self.per_layer, self.moe_layers
        n = self.layers * (p.attention + p.norms) + (self.layers - moe) * p.dense_mlp + self.hidden_size
        n += moe * (experts * p.expert + p.shared + p.router)
        return n + self.embedding_parameters * (1 if self.tie_word_embeddings else 2)

    @property
    def parameters(self) -> int:
        """All parameters, embeddings included (without multi-token-prediction heads)."""
        return self._count(self.experts)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes, embeddings included."""
        return self._count(self.experts_per_token)

    def kv_elements_per_token_layer(self, tensor_parallel_size: int = 1) -> int:
        """KV cache elements of one token in one layer on one rank.

        Heads are split among ranks and replicated where there are more ranks than heads; MLA latents live on
        every rank.

        >>> from simulator.catalog import find_model
        >>> llama = find_model("llama-3.1-8b")
        >>> [llama.kv_elements_per_token_layer(tp) for tp in (1, 2, 16)]
        [2048, 1024, 256]
        """
        if self.mla:
            return self.kv_lora_rank + self.qk_rope_head_dim
        return 2 * max(1, self.kv_heads // tensor_parallel_size) * self.head_dim
