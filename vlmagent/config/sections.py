"""A run's configuration: pydantic models with a docstring per field, YAML recipes and ``--set`` overrides.

Knows nothing of what the values are used for; ``env`` stays a plain mapping here because only the task knows
which options its environment has (``tasks.registry`` validates it, with the same error messages).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from vlmagent.config.model import CnnConfig, ModelConfig, Section
from vlmagent.types import SFT_STAGES


class SftConfig(Section):
    """Supervised fine-tuning on solver samples, before RL (paper, appendix D)."""

    primer_samples: int = Field(0, ge=0)
    """Short texts of the task's, first of all: they teach to find a name again, sooner than long prompts. 0: none."""
    language_samples: int = Field(0, ge=0)
    """Samples shown without their picture after that: language comes before seeing. 0 leaves the stage out."""
    language_lr: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate of that stage and the one before."""
    language_prompts: float = Field(0.0, ge=0, le=1)
    """Weight of a prompt's token in these stages' loss, beside 1 of a response's; 0 learns the responses alone."""
    language_renamed: float = Field(0.0, ge=0, le=1)
    """Share of ``language_samples`` in which the task's ``exchangeable`` names stand for each other: what lies where
    then says nothing, and a name has to be copied from where it stands."""
    caption_samples: int = Field(0, ge=0)
    """Samples of a captioning task after that: say what the picture shows (the analogue of LLaVA's alignment stage).
    All three are for models built from nothing. 0 leaves the stage out."""
    caption_lr: float = Field(4e-4, gt=0, le=1)
    """Peak learning rate of that stage."""
    caption_share: float = Field(0.0, ge=0, lt=1)
    """Share of captions among ``samples``: without any, a model forgets again how to read the picture."""
    drill_share: float = Field(0.0, ge=0, lt=1)
    """Share of the task's drills among ``language_samples`` and ``samples``: what seldom has to be told apart."""
    random_actions: float = Field(0.0, ge=0, le=1)
    """Share of demonstrated actions drawn at random from the legal ones, their thoughts arguing for them: a
    demonstrator that errs, as people and other models do. RL then has to do better than its teacher."""
    keep_states: float = Field(1.0, gt=0, le=1)
    """Share of the states of each demonstrated episode that become samples. States of one episode are much alike:
    with a tenth of them a batch shows ten times as many episodes."""
    keep_first: int = Field(0, ge=0)
    """How many states at the beginning of an episode are kept whatever ``keep_states`` says: there the whole solution
    has to be found, later the prompt gives much of it away."""
    distinct_samples: int = Field(0, ge=0)
    """If positive, only so many samples are made and then shown again, also as language: for slow environments."""
    corpus_samples: int = Field(2000, ge=1)
    """Samples whose texts the built-in model's tokenizer is trained on."""
    samples: int = Field(6400, ge=0)
    """The last stage: whole samples. With 0 in all stages RL starts from the model as it is."""
    batch_size: int = Field(32, ge=1)
    """Samples per optimiser step."""
    micro_batch_size: int = Field(0, ge=0)
    """If positive, samples per forward pass; gradients are accumulated up to ``batch_size``."""
    checkpoint_every: int = Field(0, ge=0)
    """If positive, progress is saved after every this many optimiser steps, not only when the run is stopped."""
    lr: float = Field(7e-4, gt=0, le=1)
    """Peak learning rate of AdamW."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises linearly."""
    final_lr_ratio: float = Field(0.1, ge=0, le=1)
    """The cosine schedule ends at this share of the peak."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this global norm."""

    @property
    def all_samples(self) -> int:
        """Those of every stage."""
        return sum(int(getattr(self, stage)) for stage in SFT_STAGES)


class RolloutConfig(Section):
    """Collecting experience."""

    num_envs: int = Field(64, ge=1, le=4096)
    """Environments stepped together; one batched generation serves them all."""
    temperature: float = Field(1.0, gt=0, le=10)
    """Sampling temperature. Log-probs are those of the tempered distribution (paper: 0.2)."""
    max_new_tokens: int = Field(64, ge=1, le=4096)
    """Outputs are cut after this many tokens (paper: 256)."""


class StopConfig(Section):
    """When the task counts as learnt, which ends PPO before ``ppo.env_steps``; the schedules do not change."""

    success: float = Field(0.0, ge=0, le=1)
    """The bar: PPO ends after the update in which success over the last ``episodes`` reaches it (0: never)."""
    episodes: int = Field(400, ge=1)
    """Training episodes that success is taken over; nothing is judged before so many have ended."""


class PpoConfig(Section):
    """Proximal policy optimisation (paper, section 4 and C.3)."""

    env_steps: int = Field(15_000, ge=0)
    """Environment steps of the whole run, over all environments; rounded down to whole updates (0: SFT only)."""
    stop_when: StopConfig = StopConfig()
    """What ends PPO sooner: a task that is learnt. Tables at equal environment steps leave it off."""
    steps_per_update: int = Field(512, ge=1)
    """Transitions collected per update (the paper's B); a multiple of ``rollout.num_envs``."""
    epochs: int = Field(4, ge=1, le=100)
    """Passes over the collected transitions per update."""
    minibatch_size: int = Field(64, ge=1)
    """Samples per optimiser step."""
    micro_batch_size: int = Field(64, ge=1)
    """Samples per forward pass; gradients are accumulated up to ``minibatch_size``."""
    max_tokens_per_micro_batch: int = Field(0, ge=0)
    """If positive, samples of like length go through a forward pass together, as many as fit into this many tokens
    (pictures, prompts and outputs, padding included) and ``micro_batch_size``; halved when memory runs out."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Initial learning rate of the policy (paper: 1e-5 for 7 B with LoRA)."""
    final_lr: float = Field(1e-6, ge=0, le=1)
    """Learning rate at the end of the cosine schedule, which is stepped once per update."""
    schedule_updates: int = Field(0, ge=0)
    """Updates over which the schedule falls (the paper's T_max 25); 0 means all updates of the run."""
    value_lr: float = Field(1e-3, gt=0, le=1)
    """Initial learning rate of the value head; follows the same schedule."""
    critic_warmup: int = Field(0, ge=0)
    """First updates that train the critic alone: a policy should not follow a critic that knows nothing yet."""
    clip: float = Field(0.2, gt=0, lt=1)
    """The ratio is clipped to [1 - clip, 1 + clip]."""
    value_coef: float = Field(0.5, ge=0)
    """Weight of the value loss."""
    value_scale: float = Field(1.0, gt=0)
    """About how large returns are. The critic predicts in this unit, V(s) = value_scale * output, and its loss is
    counted in it: an optimiser's step changes each weight by about its learning rate, whatever the returns are."""
    value_clip: float = Field(0.0, ge=0)
    """If positive, the value may move by at most this much per update, in units of ``value_scale`` (0: no clipping)."""
    detach_value: bool = True
    """Whether the value loss leaves the backbone alone (gradients stop at the hidden state)."""
    kl_coef: float = Field(0.0, ge=0, le=10)
    """If positive, log pi(output) - log pi_start(output) times this is taken off each reward: outputs stay close to the
    language that SFT taught, where reward alone lets thoughts decay (paper: none)."""
    entropy_coef: float = Field(0.0, ge=0, le=10)
    """Weight of the mean token entropy, which is maximised."""
    max_grad_norm: float = Field(0.5, gt=0)
    """Gradients are clipped to this global norm."""
    gamma: float = Field(0.9, ge=0, le=1)
    """Discount factor."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation."""
    thought_weight: float = Field(0.5, ge=0, le=1)
    """The paper's lambda: weight of the thought tokens' log-prob (equation 4.3)."""
    normalize_advantages: bool = True
    """Whether advantages are shifted and scaled to mean 0, standard deviation 1 over the update's samples."""
    target_kl: float = Field(0.0, ge=0)
    """If positive, an update ends before the first minibatch whose mean KL from the policy that collected it exceeds
    this (nats per output): a trust region that adapts the number of steps."""
    max_skipped: int = Field(3, ge=0)
    """Optimiser steps in a row that may be skipped for non-finite numbers before the run stops with a diagnosis."""


class DistributedConfig(Section):
    """Training in several processes together, through DeepSpeed (extra ``deepspeed``)."""

    processes: int = Field(1, ge=1, le=4096)
    """How many: each on a GPU of its own, or on the CPU if that is the device. They share ``rollout.num_envs``,
    ``ppo.steps_per_update`` and ``ppo.minibatch_size``, which stay numbers of the whole run."""
    deepspeed: str = "zero1"
    """DeepSpeed's own configuration: ``zero0`` to ``zero3``, or the path of a JSON file. A process that runs out of
    memory makes its micro-batches smaller, but from ``zero2`` on it ends the run."""
    hostfile: str | None = None
    """Machines in DeepSpeed's form, a line ``HOST slots=N`` each; null trains on this machine alone."""


class CheckpointConfig(Section):
    """What is kept of a run's weights."""

    every: int = Field(1, ge=1)
    """A checkpoint is written after every this many updates, and at the end."""
    keep_last: int = Field(3, ge=1)
    """Newest checkpoints kept; older ones are removed."""
    keep_every: int = Field(10, ge=0)
    """Every this many updates one checkpoint is kept for good (0: none). The start is always kept."""


class StoreConfig(Section):
    """The run database."""

    journal_mode: Literal["wal", "delete"] = "wal"
    """SQLite's journal; ``delete`` for network file systems, where WAL does not work."""
    queue_size: int = Field(1024, ge=1)
    """Records that may wait for the writer thread; beyond that the trainer waits. Nothing is dropped."""


class EvalConfig(Section):
    """Defaults of ``vlmagent eval``."""

    episodes: int | None = Field(None, ge=1)
    """Episodes per system; null takes the paper's number: 1000 on Blackjack, 200 elsewhere."""
    num_envs: int = Field(64, ge=1, le=4096)
    """Environments stepped together."""
    temperature: float | None = Field(None, ge=0, le=10)
    """Sampling temperature; null takes ``rollout.temperature``, 0 takes the likeliest token."""
    seed: int = Field(0, ge=0, lt=2**20)
    """Chooses the evaluation episodes, whose seeds no training run ever uses."""


class Config(Section):
    """A whole recipe: what is trained, on what, and how."""

    task: str
    """Name of a registered task, such as ``numberline``."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seeds the model, the data, the environments and the sampling."""
    cot: bool = True
    """Whether the prompt asks for thoughts before the action."""
    rule_set: str = "paper"
    """The environment's rules: as the paper states them, or another set that the task names."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Options of the environment; the task knows them."""
    agent: Literal["vlm", "cnn"] = "vlm"
    """Who learns: a vision-language model that writes, or the paper's baseline ``cnn``, which chooses."""
    model: ModelConfig = ModelConfig()
    """Which network acts."""
    cnn: CnnConfig = CnnConfig()
    """The baseline's features and network; used when ``agent`` is ``cnn``."""
    sft: SftConfig = SftConfig()
    """Supervised fine-tuning before RL."""
    rollout: RolloutConfig = RolloutConfig()
    """Collecting experience."""
    ppo: PpoConfig = PpoConfig()
    """The RL updates."""
    distributed: DistributedConfig = DistributedConfig()
    """Several processes."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Which weights are kept."""
    store: StoreConfig = StoreConfig()
    """The run database."""
    eval: EvalConfig = EvalConfig()
    """Defaults of the evaluation."""

    @model_validator(mode="after")
    def _whole_batches(self) -> Config:
        # a step of all environments is never cut: whole ones are logged, replayed and arranged as (T, N)
        if self.ppo.steps_per_update % self.rollout.num_envs:
            raise ValueError(
                f"ppo.steps_per_update = {self.ppo.steps_per_update} must be a multiple of "
                f"rollout.num_envs = {self.rollout.num_envs}"
            )
        # 0 is fine: supervised fine-tuning alone
        if 0 < self.ppo.env_steps < self.ppo.steps_per_update:
            raise ValueError(
                f"ppo.env_steps = {self.ppo.env_steps} is less than one update of "
                f"ppo.steps_per_update = {self.ppo.steps_per_update}"
            )
        return self

    @model_validator(mode="after")
    def _equal_shares(self) -> Config:
        # steps_per_update follows: it is a multiple of num_envs
        processes = self.distributed.processes
        for key, value in (
            ("rollout.num_envs", self.rollout.num_envs),
            ("ppo.minibatch_size", self.ppo.minibatch_size),
        ):
            if value % processes:
                raise ValueError(
                    f"{key} = {value} must be a multiple of distributed.processes = {processes}: "
                    "each process takes an equal share"
                )
        if processes > 1 and self.agent != "vlm":
            raise ValueError(f"agent = {self.agent} trains in one process, not {processes}")
        return self

    @property
    def num_updates(self) -> int:
        """Whole updates that fit into ``ppo.env_steps``."""
        return self.ppo.env_steps // self.ppo.steps_per_update
