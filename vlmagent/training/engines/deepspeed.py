"""Many processes: a torch optimiser behind DeepSpeed's ZeRO, stages 0 to 3. The only module that imports deepspeed.

Gradients are averaged over the processes; from stage 1 on each keeps only its part of the optimiser's state, from stage
2 on of the gradients, in stage 3 of the weights. States are given and taken whole, in torch's own form, so that a
checkpoint fits any number of processes and ``LocalEngine``. Knows nothing of rollouts.

In stages 0 and 1 gradients are summed here and averaged by ``step``: a process that runs out of memory before can try
again alone. From stage 2 on each parameter's gradient leaves for its owner in the middle of going back (in stage 3 the
weights come and go in every layer): the others wait there for a process that ran out of memory, so that it cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from vlmagent.models.logprob import Scores
from vlmagent.training.engines.fits import check_optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, in the shape of their parameter


class DeepSpeedEngine:
    """Implements ``engines.base.Engine``.

    The process group must be there. Gradients must come from ``score``: DeepSpeed watches that forward pass.

    Args:
        network: holds every parameter.
        score: runs the network with gradients.
        groups: parameter groups, each with its initial ``lr``.
        settings: DeepSpeed's own configuration, complete (see ``zero_config``).
        max_grad_norm: clip to this global norm over all groups.
        weight_decay: AdamW's; a frozen group has none.
    """

    def __init__(
        self,
        network: nn.Module,
        score: Callable[[Any], Scores],
        groups: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        max_grad_norm: float,
        weight_decay: float = 0.0,
    ) -> None:
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would compile for minutes
        self.stage = int(settings.get("zero_optimization", {}).get("stage", 0))
        self._groups = [list(group["params"]) for group in groups]
        self._initial = [float(group["lr"]) for group in groups]
        self._frozen = [False for _ in groups]
        self._weight_decay = weight_decay
        adamw = _CheckedAdamW(
            [dict(group) for group in groups], max_grad_norm, weight_decay, active=self.stage == 0
        )
        # torch's own description of groups and parameters: ZeRO's optimiser holds flat tensors, whose groups say
        # nothing
        self._described = adamw.state_dict()["param_groups"]
        self._engine: Any
        self._engine, *_ = deepspeed.initialize(
            model=_Scoring(network, score),
            model_parameters=[parameter for group in self._groups for parameter in group],
            optimizer=adamw,
            # in stage 0 DeepSpeed would step before anybody had seen the norm: `_CheckedAdamW` clips there
            config={**settings, "gradient_clipping": max_grad_norm if self.stage else 0.0},
            dist_init_required=False,
        )

    @property
    def optimizer(self) -> Any:
        """The torch optimiser inside."""
        # from stage 1 on ZeRO's optimiser stands around the torch one
        return self._engine.optimizer if self.stage == 0 else self._engine.optimizer.optimizer

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def averages_each_pass(self) -> bool:
        """From stage 2 on."""
        return self.stage >= 2

    def score(self, batch: Any) -> Scores:
        """The network's scores with gradients."""
        return Scores(*self._engine(batch))

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients."""
        self._engine.backward(loss)

    def step(self) -> float:
        """Clip, step, clear; a norm that is not finite leaves weights and optimiser untouched."""
        # of frozen groups alone, which are stepped along with the others
        counts = self._counts()
        self._engine.step()
        for group, frozen in enumerate(self._frozen):
            if frozen:
                self._reset_counts(group, counts)
        if self.stage == 0:
            return float(self.optimizer.norm)
        # left out because the gradients were not finite: so the norm says, too
        return float(self._engine.get_global_grad_norm()) if self._engine.was_step_applied() else math.inf

    def discard(self) -> None:
        """Clear the accumulated gradients, as DeepSpeed does itself when they overflow."""
        optimizer = self._engine.optimizer
        optimizer.zero_grad(set_to_none=True)
        # stages 1 and 2 keep sums of their own beside the parameters' gradients
        if self.stage in (1, 2):
            # as before a first micro-batch (DeepSpeed's INITIAL_MICRO_STEP_ID)
            optimizer.micro_step_id = -1
            while optimizer._backward_active_depth:  # a pass that was broken off never left
                optimizer.exit_backward()
            # flat sums of this process's part, which zero_grad does not know of
            for group in range(len(self._groups)):
                optimizer.averaged_gradients[group] = optimizer.all_grad_tensors[group] = None

    def set_lr_factor(self, factor: float) -> None:
        """Scale every group's initial learning rate."""
        for group, initial in zip(self.optimizer.param_groups, self._initial, strict=True):
            group["lr"] = initial * factor

    def freeze(self, group: int, frozen: bool) -> None:
        """A frozen group gets no gradients; what its steps count is taken back (see ``step``)."""
        self._frozen[group] = frozen
        # AdamW would shrink the weights even with gradients of zero
        self.optimizer.param_groups[group]["weight_decay"] = 0.0 if frozen else self._weight_decay
        for parameter in self._groups[group]:
            parameter.requires_grad_(not frozen)

    def restart(self, lr: float) -> None:
        """Begin anew at ``lr``."""
        self._initial = [lr for _ in self._initial]
        groups = [{**group, "lr": lr} for group in self._described]
        self.load_state_dict({"state": {}, "param_groups": groups})

    @contextmanager
    def whole(self) -> Iterator[None]:
        """In stage 3 the weights are gathered, and the hooks that would part them again are taken off meanwhile."""
        if self.stage < 3:
            yield
            return
        import deepspeed

        offload = self._engine.optimizer.parameter_offload
        with deepspeed.zero.GatheredParameters(list(self._engine.module.parameters())):
            for parameter in self._engine.module.parameters():
                parameter.ds_active_sub_modules.clear()
            for hook in (*offload.forward_hooks, *offload.backward_hooks):
                hook.remove()
            offload.forward_hooks, offload.backward_hooks = [], []
            try:
                yield
            finally:
                offload._register_deepspeed_module(offload.module)  # puts the hooks back

    def close(self) -> None:
        """Take every hook off the network; in stage 3 its weights are put together again."""
        # before the engine is taken down: only it knows where the parts are
        plain = self._gathered_parameters() if self.stage == 3 else {}
        self._engine.destroy()
        # stage 3 put parts in the places of the weights: whole ones go back there
        for module in self._engine.module.modules() if plain else ():
            own = module._parameters.items()
            module._parameters = {name: plain.get(parameter, parameter) for name, parameter in own}

    def _gathered_parameters(self) -> dict[nn.Parameter | None, nn.Parameter]:
        """Whole copies of the divided parameters, one at a time: two of them all would need twice the memory."""
        import deepspeed

        copies: dict[nn.Parameter | None, nn.Parameter] = {}
        for parameter in self._engine.module.parameters():
            with deepspeed.zero.GatheredParameters([parameter]):
                copies[parameter] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        return copies

    def state_dict(self) -> Mapping[str, Any]:
        """The optimiser's whole state in torch's form; other processes than the first get its description alone."""
        lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        described = [{**group, "lr": lr} for group, lr in zip(self._described, lrs, strict=True)]
        first = self._engine.global_rank == 0
        if self.stage == 0:
            state = self.optimizer.state_dict()["state"]
            return {"state": state if first else {}, "param_groups": described}
        state = {}
        # every process goes through all parameters in the same order: `_gathered` meets the others
        for index, group, parameter in self._numbered():
            count = self.optimizer.state.get(self._flats(group)[0], {}).get("step")
            # a group that has not stepped yet has no moments, as in torch
            if count is None or not float(count):
                continue
            moments = {name: self._gathered(group, parameter, name) for name in MOMENTS}
            if first and moments[MOMENTS[1]].any():  # torch has no state of what never had a gradient
                state[index] = {"step": count.detach().clone().cpu(), **moments}
        return {"state": state, "param_groups": described}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a whole state; every process keeps its part.

        Raises:
            UsageError: it is of other parameters.
        """
        check_optimizer(state, self._groups)
        for group, saved in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            group["lr"] = saved["lr"]
        if self.stage == 0:
            self.optimizer.load_state_dict(dict(state))
            return
        entries = state["state"]
        # ZeRO counts steps by flat tensor, AdamW by parameter: they are equal in a group, and the last one's stands
        # for all
        counts = {group: float(entries[i]["step"]) for i, group, _ in self._numbered() if i in entries}
        for group in range(len(self._groups)):
            for flat in self._flats(group):
                # parameters that the file has no moments of begin at zero, as torch makes them
                moments = {name: torch.zeros_like(flat) for name in MOMENTS}
                self.optimizer.state[flat] = {"step": torch.tensor(counts.get(group, 0.0)), **moments}
        for index, group, parameter in self._numbered():
            for name in MOMENTS if index in entries else ():
                self._scatter(group, parameter, name, entries[index][name])

    def _numbered(self) -> Iterator[tuple[int, int, nn.Parameter]]:
        """Every parameter with its index in torch's state and its group."""
        index = 0
        for group, parameters in enumerate(self._groups):
            for parameter in parameters:
                yield index, group, parameter
                index += 1

    def _flats(self, group: int) -> list[Tensor]:
        """The flat float32 tensors that this process steps for a group."""
        zero = self._engine.optimizer
        if self.stage < 3:
            return [zero.single_partition_of_fp32_groups[group]]
        # stage 3 cuts a group into sub-groups, each a flat tensor of its own
        owners = zero.sub_group_to_group_id
        return [
            flat for index, flat in enumerate(zero.fp32_partitioned_groups_flat) if owners[index] == group
        ]

    def _counts(self) -> dict[int, list[float]]:
        """Steps taken so far by frozen groups."""
        if self.stage == 0:
            return {}
        return {
            group: [float(self.optimizer.state.get(flat, {}).get("step", 0.0)) for flat in self._flats(group)]
            for group, frozen in enumerate(self._frozen)
            if frozen
        }

    def _reset_counts(self, group: int, counts: Mapping[int, Sequence[float]]) -> None:
        """A frozen group was stepped with gradients of zero: nothing moved, and it shall not count as a step."""
        if self.stage == 0:
            return
        for flat, count in zip(self._flats(group), counts[group], strict=True):
            if "step" in self.optimizer.state.get(flat, {}):
                self.optimizer.state[flat]["step"].fill_(count)

    def _gathered(self, group: int, parameter: nn.Parameter, name: str) -> Tensor:
        """A parameter's moment put together from all processes' parts, on the CPU."""
        shape = getattr(parameter, "ds_shape", parameter.shape)
        # zeros but for this process's part: the sum over all processes is the whole
        whole = torch.zeros(self._padded(parameter), device=self._engine.device)
        part = self._part(group, parameter, name)
        if part is not None:
            whole[part.start : part.start + len(part.values)] = part.values
        dist.all_reduce(whole)
        # without the padding of stage 3
        return whole[: shape.numel()].reshape(shape).cpu()

    def _scatter(self, group: int, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Keep this process's part of a parameter's moment."""
        part = self._part(group, parameter, name)
        if part is not None:
            # padded like the parts, the last of which may end behind the parameter
            whole = torch.zeros(self._padded(parameter))
            whole[: value.numel()] = value.flatten()
            part.values.copy_(whole[part.start : part.start + len(part.values)])

    def _padded(self, parameter: Any) -> int:
        """Numbers in a parameter, in stage 3 rounded up to equal parts."""
        if self.stage < 3:
            return int(parameter.numel())
        return int(parameter.ds_tensor.ds_numel * self._engine.world_size)

    def _part(self, group: int, parameter: Any, name: str) -> _Part | None:
        """This process's part of a parameter's moment, or None when it has none."""
        zero: Any = self._engine.optimizer
        if self.stage < 3:
            mapping = parameter._hp_mapping
            if mapping is None:
                return None
            # DeepSpeed's `hp`: the float32 copy, where the fragment lies in the moment; `lp`: where it begins in the
            # parameter
            moment = self.optimizer.state[self._flats(group)[0]][name]
            address = mapping.get_hp_fragment_address()
            values = moment.narrow(0, address.start, address.numel)
            return _Part(values, mapping.lp_fragment_address.start)
        sub_group, offset, size = zero.grad_position[zero.get_param_id(parameter)]
        # process k has the k-th of equal stretches of every parameter
        moment = self.optimizer.state[zero.fp32_partitioned_groups_flat[sub_group]][name]
        return _Part(moment.narrow(0, offset, size), size * self._engine.global_rank)


class _Part(NamedTuple):
    """A stretch of a flattened parameter's numbers, and where it starts."""

    values: Tensor
    start: int


class _Scoring(nn.Module):
    """The network with the forward pass that DeepSpeed wants to see: scoring a batch."""

    def __init__(self, network: nn.Module, score: Callable[[Any], Scores]) -> None:
        super().__init__()
        self.network = network
        self._score = score

    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scores = self._score(batch)  # DeepSpeed looks for tensors in tuples only
        return scores.token_logprobs, scores.entropies, scores.mask, scores.values


class _CheckedAdamW(torch.optim.AdamW):
    """AdamW that in stage 0 clips and looks at the norm itself, since DeepSpeed then steps whatever it is.

    Attributes:
        norm: of the last step's gradients, before clipping.
    """

    def __init__(
        self, groups: list[dict[str, Any]], max_grad_norm: float, weight_decay: float, *, active: bool
    ) -> None:
        super().__init__(groups, weight_decay=weight_decay)
        self.max_grad_norm = max_grad_norm
        self.active = active
        self.norm = math.nan

    def step(self, closure: Any = None) -> Any:
        if self.active:
            # of all groups at once: one norm over everything that learns
            parameters = [parameter for group in self.param_groups for parameter in group["params"]]
            self.norm = float(clip_grad_norm_(parameters, self.max_grad_norm))
            if not math.isfinite(self.norm):
                return None
        return super().step(closure)
