"""The Llama architecture in plain torch, with the parameter names of Hugging Face.

Because the names agree, a state dict of `TinyTale` is the content of `model.safetensors`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .tokenizer import VOCABULARY


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the model; the defaults give 1.31 M parameters, 5.3 MB in float32."""

    vocabulary: int = VOCABULARY
    hidden: int = 128
    intermediate: int = 384
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    context: int = 4096
    rope_theta: float = 10_000.0
    rms_eps: float = 1e-5


def rotary(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, each (length, head_dim), halves repeated."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32), shape.rope_theta**-steps)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn `x` (batch, heads, length, head_dim) by the angles of its positions."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention with grouped keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, queries, bias=False)
        self.k_proj = nn.Linear(shape.hidden, keys, bias=False)
        self.v_proj = nn.Linear(shape.hidden, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, length, hidden) to the same."""
        batch, length, _ = x.shape
        split = (batch, length, -1, self.shape.head_dim)
        q = rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class FeedForward(nn.Module):
    """The gated feed-forward part of a layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, hidden) to the same."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each normalised before and added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.rms_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.rms_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, length, hidden) to the same."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Trunk(nn.Module):
    """Everything below the output layer; a module of its own only for the `model.` in the names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.rms_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (batch, length) to states (batch, length, hidden)."""
        cos, sin = rotary(self.shape, ids.shape[1])
        x: Tensor = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.norm(x)
        return out


class TinyTale(nn.Module):
    """The whole model."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        self.model = Trunk(self.shape)
        self.lm_head = nn.Linear(self.shape.hidden, self.shape.vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (batch, length) to logits (batch, length, vocabulary)."""
        out: Tensor = self.lm_head(self.model(ids))
        return out

    def initialise(self, seed: int) -> None:
        """Draw fresh weights: normal, 0.02, and smaller where layers add to the residual."""
        generator = torch.Generator().manual_seed(seed)
        residual = 0.02 / (2 * self.shape.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                added = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=residual if added else 0.02, generator=generator)

    @torch.inference_mode()
    def greedy(
        self, ids: list[int], stop: frozenset[int], limit: int, draft: Sequence[int] = ()
    ) -> tuple[list[int], float]:
        """Continue `ids` with the likeliest tokens, at most `limit`, without the stop token.

        Also gives the smallest lead, in logits, that a chosen token had over the runner-up: how far
        the answer is from being another one. `draft`, shorter than `limit`, changes nothing but the
        time it takes: it is an answer that is expected, read in one go and believed as far as the
        model agrees. There is no key-value cache; without a draft the whole prefix is read again
        for each token.
        """
        answer: list[int] = []
        margin = float("inf")
        guess = list(draft)
        while len(answer) < limit:
            states = self.model(torch.tensor([ids + answer + guess]))
            best = self.lm_head(states[0, len(ids) + len(answer) - 1 :]).topk(2)
            leads = (best.values[:, 0] - best.values[:, 1]).tolist()
            tokens = best.indices[:, 0].tolist()
            for token, lead, guessed in zip(tokens, leads, [*guess, None], strict=True):
                margin = min(margin, lead)
                if token in stop:
                    return answer, margin
                answer.append(token)
                if token != guessed:
                    break
            guess = []
        return answer, margin
