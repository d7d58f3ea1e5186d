"""Writes the torch files beside this script: python make.py (needs torch 2.11 and numpy).

Files of the first kind are written by torch itself. The rest are pickles by hand in the archive that torch would write:
they describe what torch refuses to save, or what an attacker would.
"""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import torch

HERE = Path(__file__).parent


def save(name, value, **options):
    torch.save(value, HERE / name, **options)


def ramp(*shape):
    return torch.arange(float(numpy.prod(shape))).reshape(shape)


# Written by torch.
base, cube = ramp(3, 4), ramp(4, 3, 2)
save("views.pt", OrderedDict(
    plain=base, transposed=base.t(), column=base[:, 1], row=base[1], tail=base[1:, 2:],
    expanded=torch.tensor([7.0]).expand(3), permuted=cube.permute(2, 1, 0),
    half=torch.tensor([1.5, -2.0], dtype=torch.float16), bfloat=torch.tensor([1.5, -2.0, 3.0], dtype=torch.bfloat16),
    double=torch.tensor([0.25], dtype=torch.float64), scalar=torch.tensor(7), int32=torch.tensor([-5], dtype=torch.int32),
    bool=torch.tensor([True, False]), empty=torch.empty(0, 3), parameter=torch.nn.Parameter(torch.tensor([1.0, 2.0])),
))
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
save("module.pt", module.state_dict())
save("whole_module.pt", module)
state = OrderedDict(weight=ramp(2, 3))
for protocol in (3, 4, 5):
    save(f"protocol_{protocol}.pt", state, pickle_protocol=protocol)
save("nested.pt", {"epoch": 3, "lr": 1e-4, "model_state_dict": state, "optimizer": {"param_groups": [{"lr": 0.1}]}})
save("two_models.pt", {"model": state, "ema": OrderedDict(weight=ramp(3))})
save("no_tensors.pt", {"epoch": 3})
save("mixed.pt", {"weight": ramp(2), "epoch": 3})
save("numpy.pt", {"model": state, "loss": numpy.float64(0.5)})
save("legacy.pt", state, _use_new_zipfile_serialization=False)


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


save("os_system.pt", OrderedDict(weight=Call(os.system, "touch scgpt-tools-test-was-run")))
save("eval.pt", OrderedDict(weight=Call(eval, "open('scgpt-tools-test-was-run', 'w')")))


# Written by hand.
def archive(name, program, storages=({"0": ramp(2, 3).numpy().tobytes()}), byteorder=b"little", method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(HERE / name, "w", method) as file:
        members = {"data.pkl": program, "byteorder": byteorder, "version": b"3\n"}
        members |= {f"data/{key}": blob for key, blob in storages.items()}
        for member, content in members.items():
            if content is not None:
                file.writestr(zipfile.ZipInfo(f"best_model/{member}"), content, method)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"\x8a" + bytes([length := max(1, value.bit_length() // 8 + 1)]) + value.to_bytes(length, "little", signed=True)


def sizes(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(numel=6, offset=0, shape=(2, 3), strides=(3, 1)):
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(numel) + b"tQ"
    view = storage + integer(offset) + sizes(shape) + sizes(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"\x89ccollections\nOrderedDict\n)RtR"


def program(*entries):
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(text("weight") + entry for entry in entries) + b"u."


archive("outside.pt", program(tensor(shape=(3, 3))))
archive("offset_outside.pt", program(tensor(offset=1)))
archive("negative_stride.pt", program(tensor(strides=(3, -1))))
archive("short_storage.pt", program(tensor(numel=100)))
archive("huge_shape.pt", program(tensor(shape=(10**9, 10**9), strides=(0, 0))))
archive("overflowing_shape.pt", program(tensor(shape=(2**62, 2**62), strides=(0, 0))))
archive("many_dimensions.pt", program(tensor(shape=(1,) * 1000, strides=(1,) * 1000)))
archive("repeated_name.pt", program(tensor(), tensor()))
archive("no_storage.pt", program(tensor()), storages={})
archive("no_pickle.pt", None)
archive("big_endian.pt", program(tensor()), byteorder=b"big")
archive("compressed.pt", program(tensor()), storages={"0": bytes(24)}, method=zipfile.ZIP_DEFLATED)
