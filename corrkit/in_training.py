"""Networks as training loops hold them: compiled, averaged, a replica on every device, divided among processes.

What only runs a network otherwise is no part of it: its weights, names and numbers are those of the network within.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from corrkit.errors import UsageError

_INSIDE = "_orig_mod"
"""The network within a compiled one; see torch._dynamo.OptimizedModule."""


def network_within(module: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, DataParallel, an AveragedModel or `torch.compile`; else itself."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
            inner = module.module
        elif _is_compiled(module):
            inner = getattr(module, _INSIDE)
        else:
            return module
        assert isinstance(inner, nn.Module)
        module = inner


def network_name(module: nn.Module) -> str:
    """The name of the network's own class."""
    network = network_within(module)
    kind = type(network.module) if _is_fsdp1(network) else type(network)
    return kind.__bases__[1].__name__ if _is_fsdp2(network) else kind.__name__  # FSDP2 makes a class of itself and this


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of the network within; parts of it that are compiled have the names of those that are not.

    Of a network divided among processes the whole tensors, so every process must call it.
    """
    state = network_within(module).state_dict()
    return {_plain(name): value.full_tensor() if is_divided(value) else value for name, value in state.items()}


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _INSIDE)


def _is_compiled(module: nn.Module) -> bool:
    dynamo = sys.modules.get("torch._dynamo")  # which only `torch.compile` loads
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def is_divided(tensor: object) -> bool:
    """Whether a tensor's values lie on several processes."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def needs_all_ranks(module: nn.Module) -> bool:
    """Whether every pass of a network takes all its processes: it is divided among them (FSDP, tensor parallel)."""
    return any(True for _ in _divided_by_fsdp(module)) or any(map(is_divided, module.parameters()))


def take_buffers_of_rank_0(module: nn.Module) -> None:
    """Makes one network of the replicas on all ranks of the process group: each has seen other batches.

    Raises:
        UsageError: on every rank, where their parameters differ.
    """
    import torch.distributed as dist

    mine = {name: _sum_of_bits(value) for name, value in module.named_parameters()}
    mine |= dict.fromkeys((name for name, _ in module.named_buffers()), 0)
    everyone: list[dict[str, int]] = [{}] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    for rank, theirs in enumerate(everyone):
        for name in dict.fromkeys((*everyone[0], *theirs)):
            if everyone[0].get(name) != theirs.get(name):
                raise UsageError(
                    f"{name} of the network on rank {rank} isn't that of rank 0, and the ranks share the clips.",
                    "Give all ranks the same weights; shared=False evaluates all clips on each rank that calls.",
                )
    sent = [{name: value.detach().cpu() for name, value in module.named_buffers()}]
    dist.broadcast_object_list(sent, src=0)
    found = [(own, sent[0][name].to(own.device)) for name, own in module.named_buffers()]
    with torch.inference_mode():  # see `corrkit.inference`
        for own, value in found:
            if own.shape == value.shape:
                own.data.copy_(value)
            else:
                own.data = value


def _sum_of_bits(tensor: Tensor) -> int:
    """Of its values, as whole numbers."""
    kind = {1: torch.int8, 2: torch.int16}.get(tensor.element_size(), torch.int32)
    return int(tensor.detach().contiguous().flatten().view(kind).sum(dtype=torch.int64))


def runs_another(part: nn.Module) -> bool:
    """Whether a module only runs another one, on several devices or processes, and keeps account of that."""
    return isinstance(part, nn.DataParallel | nn.parallel.DistributedDataParallel) or _is_fsdp1(part)


def num_parameters(module: nn.Module) -> int:
    """Of the whole network, divided or not."""
    parts = filter(_is_fsdp1, _divided_by_fsdp(module))
    flat = [part._handle.flat_param._numels for part in parts if part._handle is not None]
    if flat:  # FSDP1: of its flat parameters, and of the network's own, a process has a piece
        return sum(map(sum, flat))
    return sum(parameter.numel() for parameter in module.parameters())


def policy_of(module: nn.Module) -> torch.dtype | None:
    """The type that FSDP's mixed precision asks for in a network's passes; None where it asks for none."""
    for part in _divided_by_fsdp(module):
        # Of FSDP2 there is no public way to it.
        policy = part.mixed_precision if _is_fsdp1(part) else part._get_fsdp_state()._mp_policy
        if policy is not None and policy.param_dtype is not None:
            return policy.param_dtype  # type: ignore[no-any-return]
    return None


@contextmanager
def called_as(module: nn.Module, method: str) -> Iterator[None]:
    """A call of a divided network is one of this method of it: only calls put its weights together."""
    inner = module.module if _is_fsdp1(module) else module
    assert isinstance(inner, nn.Module)
    own = vars(inner).get("forward")
    inner.forward = getattr(inner, method)
    try:
        yield
    finally:
        del inner.forward
        if own is not None:
            inner.forward = own


@contextmanager
def plain_passes(*modules: nn.Module) -> Iterator[None]:
    """Passes within run the networks' own code, compiled or not, with weights as they are now, and send no buffers.

    Compiled code has other last bits, and new sizes and modes would have it compiled anew. DistributedDataParallel
    sends its buffers with every pass, for which the other ranks may not be waiting. What FSDP put together in a pass
    before an optimiser's step would be used once more after it.
    """
    parts = [part for module in modules for part in module.modules()]
    replicas = [part for part in parts if isinstance(part, nn.parallel.DistributedDataParallel)]
    sent = [replica.require_forward_param_sync for replica in replicas]
    shards = [_Shards(part) for module in modules for part in _divided_by_fsdp(module)]
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for replica in replicas:
            replica.require_forward_param_sync = False
        for one in shards:
            one.divide()
        try:
            yield
        finally:
            for replica, before in zip(replicas, sent, strict=True):
                replica.require_forward_param_sync = before
            for one in shards:
                one.restore()


class _Shards:
    """The weights of a part that FSDP divides, and whether they were whole on this process."""

    def __init__(self, part: Any) -> None:
        self._part = part
        if _is_fsdp2(part):
            self._was_whole = not any(map(is_divided, _own_parameters(part)))
        else:
            self._was_whole = self._has_handle() and not part._handle.needs_unshard()
            if self._has_handle() and part._use_orig_params and part._handle._needs_pre_backward_unshard:
                raise UsageError(
                    f"A backward pass of {network_name(part)} is waiting; FSDP with use_orig_params would give it "
                    "other gradients after any pass in between.",
                    "Evaluate before the loss is computed, or after backward().",
                )

    def _has_handle(self) -> bool:
        """FSDP1: whether weights are divided by this part, and a first pass has been."""
        root, handle = self._part._is_root, self._part._handle
        return root is not None and handle is not None and handle.uses_sharded_strategy

    def divide(self) -> None:
        if _is_fsdp2(self._part):
            self._part.reshard()
        elif self._has_handle():  # as torch.distributed.fsdp._runtime_utils._reshard
            self._part._handle.reshard(free_unsharded_flat_param=True)
            self._part._handle.post_reshard()
            self._part._handle._prefetched = False

    def restore(self) -> None:
        self.divide()
        if not self._was_whole:
            return
        if _is_fsdp2(self._part):
            self._part.unshard()
        else:
            self._part._handle.pre_unshard()
            self._part._handle.unshard()
            self._part._handle.post_unshard()


def _divided_by_fsdp(module: nn.Module) -> Iterator[Any]:
    """The parts that are. Most of what is asked of them has no public way."""
    return (part for part in module.modules() if _is_fsdp1(part) or _is_fsdp2(part))


def _own_parameters(part: nn.Module) -> Iterator[nn.Parameter]:
    """Those that this part divides, and none that a part of it does."""
    yield from part.parameters(recurse=False)
    for child in part.children():
        if not _is_fsdp2(child):
            yield from _own_parameters(child)


def _is_fsdp1(part: nn.Module) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(part, fsdp.FullyShardedDataParallel)


def _is_fsdp2(part: nn.Module) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(part, fsdp.FSDPModule)
