"""Which network acts: the sections ``model`` and ``cnn`` of a config, and the base of every section."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlmagent.errors import UsageError


class Section(BaseModel):
    """Base of every section: unknown keys are refused, values are frozen, field docstrings are the help text."""

    # infinity is a float, and within every range that has no end: a loss times it is lost
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class TinyModelConfig(Section):
    """Size of the built-in model: the LLaVA architecture (CLIP vision encoder, MLP projector, Llama decoder)."""

    image_size: int = Field(60, ge=16, le=672)
    """Side in pixels that pictures are resized to; a multiple of ``patch_size``."""
    patch_size: int = Field(12, ge=4, le=56)
    """Side in pixels of one vision patch; the picture becomes (image_size / patch_size)^2 tokens."""
    image_mean: float = Field(0.97, ge=0, le=1)
    """Subtracted from pixels in [0, 1]. The commonest colour of the pictures should land near zero."""
    image_std: float = Field(0.12, gt=0, le=2)
    """Pixels are divided by this after the mean was subtracted."""
    vision_width: int = Field(64, ge=8, le=1024)
    """Hidden size of the vision encoder; a multiple of ``vision_heads``."""
    vision_layers: int = Field(2, ge=1, le=24)
    """Transformer layers of the vision encoder."""
    vision_heads: int = Field(4, ge=1, le=16)
    """Attention heads of the vision encoder."""
    width: int = Field(128, ge=8, le=2048)
    """Hidden size of the decoder; a multiple of ``heads``."""
    layers: int = Field(3, ge=1, le=32)
    """Transformer layers of the decoder."""
    heads: int = Field(4, ge=1, le=32)
    """Attention heads of the decoder."""
    init_std: float = Field(0.02, gt=0, le=1)
    """Spread of the decoder's fresh weights. 0.02 is made for wide models; about 1 / sqrt(width) learns to see many
    times faster."""
    vision_init_std: float = Field(0.02, gt=0, le=2)
    """Spread of the fresh patch and position embeddings: with larger ones, places differ from the start."""
    vocab_size: int = Field(512, ge=300, le=32000)
    """Upper bound of the BPE vocabulary that is trained on the task's texts."""
    whole_words: bool = False
    """Whether every word is a token of its own instead of whole phrases: prompts get longer, but a name that is to be
    copied from the prompt is the same token wherever it stands."""
    fold_prompts: bool = False
    """Whether sentences that most prompts repeat become one token each: shorter prompts cost less."""

    @model_validator(mode="after")
    def _divisible(self) -> TinyModelConfig:
        for name, part, whole in (
            ("image_size", self.patch_size, self.image_size),
            ("vision_width", self.vision_heads, self.vision_width),
            ("width", self.heads, self.width),
        ):
            # heads divide the width, patches the picture
            if whole % part:
                raise ValueError(f"{name} = {whole} must be a multiple of {part}")
        return self


class LoraConfig(Section):
    """Low-rank adapters instead of training every weight (paper, C.1). For checkpoints, not for ``tiny``."""

    enabled: bool = False
    """Whether adapters are trained; otherwise every weight is."""
    r: int = Field(128, ge=1, le=1024)
    """Rank of the adapters."""
    alpha: float = Field(256, gt=0, le=8192)
    """Adapters are scaled by alpha / r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapters during supervised fine-tuning; off while collecting and scoring."""
    skip_unused: bool = True
    """Leave out vision layers that the model never reads (LLaVA reads its tower's last layer but one)."""


class ModelConfig(Section):
    """Which network acts."""

    name: str = "tiny"
    """``tiny`` (built from ``model.tiny``), the path of a folder in Hugging Face format, or a hub name."""
    tiny: TinyModelConfig = TinyModelConfig()
    """Size of the built-in model; used when ``name`` is ``tiny``."""
    lora: LoraConfig = LoraConfig()
    """Low-rank adapters; used when ``name`` is not ``tiny``."""
    train_vision: bool = True
    """Whether vision encoder and projector learn too. If not, each picture goes through them only once."""
    tiles: bool = True
    """Whether a picture is cut into tiles as the checkpoint's processor does. If not, LLaVA-1.6 reads one tile of 576
    tokens (as the paper's code) and Idefics3 and SmolVLM one tile; the other families have no tiles."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of a checkpoint's weights; ``auto`` takes bfloat16 on a GPU if adapters are trained, else float32.
    Adapters and value head are float32 always; without adapters bfloat16 is refused when training begins."""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Load a checkpoint's frozen weights in 8 or 4 bits; needs adapters and the extra ``quant``."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them: a third slower, far less memory."""
    value_head: tuple[int, ...] = Field((128, 64), min_length=1, max_length=4)
    """Hidden widths of the value head's MLP; the last layer to one number is added (paper: 1024, 512)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; ``auto`` takes a GPU when torch sees one."""
    threads: int = Field(0, ge=0, le=512)
    """CPU threads of the training process; 0 leaves the choice to torch."""

    @model_validator(mode="after")
    def _adapters_need_a_checkpoint(self) -> ModelConfig:
        # its weights are random: adapters beside them would have nothing to adapt
        if self.name == "tiny" and self.lora.enabled:
            raise ValueError(
                "lora.enabled = true needs a checkpoint: the built-in model 'tiny' is trained whole. "
                "Give --model PATH or a hub name"
            )
        return self

    def check_trainable(self) -> None:
        """Whether what is set can learn; asked before a training, not when a run is read, since old runs must open.

        A bfloat16 weight has 8 significant bits: a step of 1e-5 is lost in two thirds of the weights of a usual model.

        Raises:
            UsageError: whole weights are to be trained in bfloat16, or in 8 or 4 bits.
        """
        if self.quantization != "none" and not self.lora.enabled:
            raise UsageError(
                f"model.quantization = {self.quantization} freezes the weights, so that only adapters can learn: set "
                "model.lora.enabled=true as well."
            )
        if self.dtype == "bfloat16" and not self.lora.enabled and self.name != "tiny":
            raise UsageError(
                "model.dtype = bfloat16 without adapters: a step at the usual learning rates is smaller than what a "
                "bfloat16 weight can hold, so that most weights would never move. Set model.dtype=float32, or "
                "model.lora.enabled=true, whose adapters are float32."
            )


class CnnConfig(Section):
    """The baseline without language (paper, C.2): frozen image features, an MLP, the same PPO."""

    vision: str = "tiny"
    """Whose frozen vision encoder: ``tiny`` (built from ``model.tiny``, fresh), ``sft`` (as supervised fine-tuning of
    this recipe leaves it), or the path of a folder in Hugging Face format (paper: CLIP ViT-L/14)."""
    text: str = "tiny"
    """Whose frozen text encoder, on tasks whose state has text: ``tiny``, ``sft`` or a path (paper: RoBERTa-base)."""
    pooling: Literal["auto", "pooled", "patches"] = "auto"
    """What is read of a picture: the encoder's one pooled vector, or all its patches side by side; ``auto`` takes
    patches for ``tiny`` and ``sft``, whose pooled vector was never trained, and the pooled vector for a folder."""
    hidden: tuple[int, ...] = Field((512, 512), min_length=1, max_length=4)
    """Hidden widths of the policy's MLP and of the critic's (paper: two layers)."""
    lr: float = Field(3e-4, gt=0, le=1)
    """Initial learning rate, in the place of ``ppo.lr`` and ``ppo.value_lr``."""
    final_lr: float = Field(1e-8, ge=0, le=1)
    """Learning rate at the end of the cosine schedule, in the place of ``ppo.final_lr``."""
    entropy_coef: float = Field(0.01, ge=0, le=10)
    """Weight of the entropy, in the place of ``ppo.entropy_coef``: without it the policy settles on wrong actions in
    states that it has seen seldom (the default of the PPO that the paper took)."""
    action_slots: int = Field(1024, ge=2, le=65536)
    """Outputs of the network on tasks whose actions differ from state to state; names are hashed into them."""
