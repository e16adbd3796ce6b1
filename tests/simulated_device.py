"""An accelerator that exists only in tests: its tensors are the CPU's, but say that they are elsewhere.

    with SimulatedDevice("mps") as device:
        restorer = FaceRestorer.load(..., device=device)

As on an accelerator, operations on tensors of both devices raise an error, and so does float64 on `mps`. Only a real one
shows its results, its speed and the operations that it lacks.
"""

import threading
from contextlib import ExitStack
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CPU = torch.device("cpu")
MOVES = ("to", "cpu", "copy_")
INDEXES = ("__getitem__", "__setitem__", "index_put", "index_put_")  # take the CPU's integers and booleans
CUDA = {
    "is_available": True,
    "device_count": 1,
    "mem_get_info": (8 << 30, 8 << 30),
    "memory_reserved": 0,
    "memory_allocated": 0,
    "_lazy_init": None,
}
"""What functions of torch.cuda return."""


class DeviceTensor(torch.Tensor):
    """A tensor on the simulated device."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return SimulatedDevice.active.call(func, args, kwargs or {})


class SimulatedDevice(TorchFunctionMode):
    """Within the block, also in threads that it starts, there is a device `kind` (`cuda` or `mps`) with the index 0."""

    active = None

    def __init__(self, kind):
        super().__init__()
        self.device = torch.device(kind, 0)
        self.used = set()
        """The names of the functions that were called with its tensors."""
        self._exits = ExitStack()

    def __enter__(self):
        SimulatedDevice.active = self
        run = threading.Thread.run
        patches = [mock.patch.object(threading.Thread, "run", lambda thread: self._run_in_thread(run, thread))]
        if self.device.type == "mps":
            patches.append(mock.patch.object(torch.backends.mps, "is_available", lambda: True))
        else:
            patches += [mock.patch.object(torch.cuda, name, lambda *_, made=made: made) for name, made in CUDA.items()]
        for patch in patches:
            self._exits.enter_context(patch)
        overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # Module.to makes new parameters
        self._exits.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        super().__enter__()
        return self

    def __exit__(self, *error):
        super().__exit__(*error)
        self._exits.close()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.call(func, args, kwargs or {})

    def call(self, func, args, kwargs):
        """Call a function of torch as on the device."""
        with torch._C.DisableTorchFunction():
            return self._call(func, func.__name__, args, kwargs)

    def _run_in_thread(self, run, thread):
        super().__enter__()  # a mode is entered in each thread
        try:
            run(thread)
        finally:
            super().__exit__(None, None, None)

    def _call(self, func, name, args, kwargs):
        values, spec = tree_flatten((args, kwargs))
        ours = [value for value in values if isinstance(value, DeviceTensor)]
        if name == "_has_compatible_shallow_copy_type":  # asked by Module.to
            return len(ours) != 1
        target = self._target(name, args, kwargs)
        if not ours and not self._is_ours(target):
            return func(*args, **kwargs)
        if ours and name == "__get__" and func.__self__ is torch.Tensor.device:
            return self.device
        if ours and name in ("numpy", "__array__"):
            raise TypeError(f"can't convert {self.device} device type tensor to numpy")
        if ours and name not in MOVES:
            self._raise_if_mixed(name, values)
        self.used.add(name)
        inner = [self._on_cpu(value) for value in values]
        inner_args, inner_kwargs = tree_unflatten(inner, spec)
        result = func(*inner_args, **inner_kwargs)
        if name == "copy_":
            return args[0]
        is_moved = name in MOVES and bool(ours) != self._is_ours(target or self.device)
        if is_moved and result.data_ptr() == inner_args[0].data_ptr():
            result = result.clone()
        if target is not None and not self._is_ours(target):
            return result
        same = {id(one): value for one, value in zip(inner, values) if isinstance(value, DeviceTensor)}
        if isinstance(result, torch.Size):
            return result

        def wrap(one):
            return same[id(one)] if id(one) in same else self._wrap(one)

        return tree_map(lambda one: wrap(one) if isinstance(one, torch.Tensor) else one, result)

    def _target(self, name, args, kwargs):
        """The device that the call asks for, or None."""
        if name == "cpu":
            return CPU
        asked = [kwargs.get("device"), *(args[1:] if name == "to" else ())]
        for one in asked:
            if isinstance(one, torch.Tensor):
                return self.device if isinstance(one, DeviceTensor) else CPU
            if isinstance(one, (str, torch.device)):
                return torch.device(one)
        return None

    def _is_ours(self, device):
        return device is not None and device.type == self.device.type

    def _on_cpu(self, value):
        if isinstance(value, DeviceTensor):
            return value.as_subclass(torch.Tensor)
        is_ours = isinstance(value, torch.device) and self._is_ours(value)
        return CPU if is_ours else value

    def _wrap(self, tensor):
        if self.device.type == "mps" and tensor.dtype == torch.float64:
            raise TypeError("MPS does not support float64")
        return tensor.as_subclass(DeviceTensor)

    def _raise_if_mixed(self, name, values):
        for value in values:
            is_cpu = isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor) and value.ndim > 0
            is_index = name in INDEXES and is_cpu and value.dtype in (torch.int64, torch.bool)
            if is_cpu and not is_index:
                raise RuntimeError(f"{name}: expected all tensors on the same device, but found {self.device} and cpu")
