"""Generate files that pretend to be weights: one for each known trick."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any

from support.checkpoints import archive
from support.pickles import (
    DESCRIBED,
    Called,
    Filled,
    Global,
    Made,
    Opcodes,
    Ordered,
    Persistent,
    layer,
    network,
    parameter,
    pickled,
    storage,
    tensor,
    written,
)

CANARY = "was-run"
"""File that appears in the working folder if anything in a file is run."""
_TOUCH = f"touch {CANARY}"
_OPEN = f"open({CANARY!r}, 'w')"
_URL = "http://127.0.0.1:9/x"
_CALLS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("os", "system", (_TOUCH,)),
    ("posix", "system", (_TOUCH,)),
    ("nt", "system", (_TOUCH,)),
    ("os", "popen", (_TOUCH,)),
    ("os", "mkdir", (CANARY,)),
    ("subprocess", "Popen", (["touch", CANARY],)),
    ("subprocess", "check_output", (["touch", CANARY],)),
    ("pty", "spawn", (["touch", CANARY],)),
    ("builtins", "eval", (_OPEN,)),
    ("builtins", "exec", (_OPEN,)),
    ("builtins", "open", (CANARY, "w")),
    ("builtins", "__import__", ("antigravity",)),
    ("__builtin__", "eval", (_OPEN,)),
    ("__builtin__", "apply", (_OPEN,)),
    ("importlib", "import_module", ("antigravity",)),
    ("runpy", "run_path", ("evil.py",)),
    ("runpy", "_run_code", (_OPEN, {})),
    ("code", "InteractiveInterpreter.runcode", (_OPEN,)),
    ("types", "FunctionType", (None, {})),
    ("types", "CodeType", (0,)),
    ("marshal", "loads", ("c",)),
    ("pickle", "loads", ("c",)),
    ("_pickle", "loads", ("c",)),
    ("dill", "loads", ("c",)),
    ("torch", "load", ("inner.pt",)),
    ("torch.serialization", "load", ("inner.pt",)),
    ("torch.hub", "load", ("evil/repo", "model")),
    ("torch.hub", "load_state_dict_from_url", (_URL,)),
    ("torch.jit", "load", ("evil.pt",)),
    ("torch.utils.collect_env", "run", (_TOUCH,)),
    ("torch.jit.unsupported_tensor_ops", "execWrapper", (_OPEN, {}, {})),
    ("torch._utils", "_rebuild_device_tensor_from_numpy", (0,)),
    ("torch.ops", "load_library", ("evil.so",)),
    ("urllib.request", "urlopen", (_URL,)),
    ("urllib.request", "urlretrieve", (_URL, CANARY)),
    ("requests", "get", (_URL,)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("webbrowser", "open", (_URL,)),
    ("numpy", "load", ("evil.npy",)),
    ("numpy.testing._private.utils", "runstring", (_OPEN, {})),
    ("numpy.f2py.crackfortran", "getlincoef", (_OPEN, {})),
    ("pathlib", "Path", (CANARY,)),
    ("pathlib", "PosixPath.touch", (CANARY,)),
    ("pip", "main", (["install", "evil"],)),
    ("pip._internal", "main", (["install", "evil"],)),
    ("ensurepip", "_run_pip", (["install", "evil"],)),
    ("operator", "attrgetter", ("system",)),
    ("operator", "methodcaller", ("system", _TOUCH)),
    ("functools", "partial", (Global("os", "system"), _TOUCH)),
    ("functools", "reduce", (Global("builtins", "getattr"), ["x"])),
    ("itertools", "starmap", (Global("os", "system"), [(_TOUCH,)])),
    ("builtins", "map", (Global("os", "system"), [_TOUCH])),
    ("timeit", "timeit", (_OPEN,)),
    ("cProfile", "run", (_OPEN,)),
    ("bdb", "Bdb.run", (_OPEN,)),
    ("doctest", "debug_script", (_OPEN,)),
    ("trace", "Trace.run", (_OPEN,)),
    ("ctypes", "CDLL", ("evil.so",)),
    ("shutil", "rmtree", ("x",)),
    ("logging.config", "fileConfig", ("evil.ini",)),
    ("distutils.file_util", "write_file", (CANARY, ["x"])),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start", (_TOUCH,)),
    ("multiprocessing.util", "spawnv_passfds", ("/bin/touch", [CANARY], ())),
    ("copyreg", "_reconstructor", (Global("os", "system"), Global("builtins", "object"), None)),
    ("ultralytics.utils.downloads", "safe_download", (_URL,)),
    ("ultralytics.utils.downloads", "attempt_download_asset", ("yolov8n.pt",)),
    ("ultralytics.utils.checks", "check_requirements", ("evil",)),
    ("ultralytics.nn.autobackend", "AutoBackend", ("evil.torchscript",)),
    ("ultralytics.nn.tasks", "load_checkpoint", (_URL,)),
    ("ultralytics.nn.tasks", "DetectionModel", (_URL,)),
    ("ultralytics.nn.modules.block", "TorchVision", (768, "convnext_tiny", "DEFAULT")),
    ("ultralytics.nn.modules.conv", "Conv", (100_000, 100_000, 99)),
    ("torch.nn.modules.linear", "Linear", (1_000_000, 1_000_000)),
    ("torch", "FloatStorage", (1 << 30,)),
)
"""Callables that known bypasses of pickle scanners use, and constructors that the safe loader would call."""


@cache
def corpus() -> dict[str, bytes]:
    """Return the files by what they try."""
    found = {f"calls {module}.{name}": _held(Called(Global(module, name), given)) for module, name, given in _CALLS}
    for group in (
        _chains, _objects, _states, _tensors, _opcodes, _bombs, _descriptions, _archives, _rows, _foreign_rows, _graphs,
    ):  # fmt: skip
        for title, content in group():
            assert title not in found
            found[title] = content
    return found


def _held(value: Any) -> bytes:
    """Return a file that is sound but for *value* among its figures."""
    return archive(pickled({"model": network(), "best_fitness": value}))


def _with(state: dict[str, Any], **layers: Any) -> bytes:
    """Return a file whose network has *state* too."""
    return archive(pickled({"model": network(state, **layers)}))


def _chains() -> Iterator[tuple[str, bytes]]:
    getter = Global("builtins", "getattr")
    yield "getattr chain", _held(Called(Called(getter, (Global("os", "path"), "os")), (_TOUCH,)))
    yield "getattr of a layer", _held(Called(getter, (Global("ultralytics.nn.modules.head", "Detect"), "forward")))
    yield "call of a result", _held(Called(Called(Ordered.function, ()), (_TOUCH,)))
    yield "call of a layer", _held(Called(Made(Global("torch.nn.modules.linear", "Identity")), (1,)))
    yield "dotted name of an allowed module", _held(Global("torch._utils", "_rebuild_tensor_v2.__globals__"))
    yield "name that is never called", _held(Global("os", "system"))
    yield "module with a space", _held(Opcodes(b"cos system\nx\n"))


def _objects() -> Iterator[tuple[str, bytes]]:
    detector = Global("ultralytics.nn.tasks", "DetectionModel")
    yield "allowed class with arguments", archive(pickled({"model": Made(detector, (_URL,))}))
    yield "allowed class by REDUCE", archive(pickled({"model": Called(detector, ())}))
    yield "object of a class that is not allowed", _held(Made(Global("os", "_wrap_close")))
    yield "object of a function", _held(Made(Global("torch._utils", "_rebuild_parameter")))
    yield "mapping with arguments", _held(Called(Global("collections", "OrderedDict"), ([["a", 1]],)))
    yield "path of an object", _held(Called(Global("pathlib", "PosixPath"), (Ordered,)))
    yield "set of objects", _held(Called(Global("__builtin__", "set"), ([tensor()],)))
    yield (
        "numpy scalar of objects",
        _held(
            Called(
                Global("numpy.core.multiarray", "scalar"),
                (
                    Called(Global("numpy", "dtype"), ("O8", False, True)),
                    Called(Global("_codecs", "encode"), ("x", "latin1")),
                ),
            )
        ),
    )
    yield "bytes by another codec", _held(Called(Global("_codecs", "encode"), ("x", "zip_codec")))
    yield "device of a name", _held(Called(Global("torch", "device"), ("privateuseone",)))
    yield "network is a text", archive(pickled({"model": "DetectionModel"}))
    yield "state dict", archive(pickled({"model": {"model.0.conv.weight": tensor()}}))
    yield "segmentation", archive(pickled({"model": layer("ultralytics.nn.tasks", "SegmentationModel")}))
    yield "criterion as a layer", _with({}, model=layer("ultralytics.utils.loss", "v8DetectionLoss"))


def _states() -> Iterator[tuple[str, bytes]]:
    hook = Made(Global("ultralytics.nn.distill_model", "FeatureHook"))
    for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks"):
        yield f"something in {name}", _with({name: {0: Global("torch", "device")}})
    yield "hooks in a list", _with({"_forward_hooks": [hook, 1]})
    yield "setstate of a function", _held(Filled(Global("torch._utils", "_rebuild_parameter"), {"x": 1}))
    yield "setstate of a list", _held(Filled([], {"__class__": 1}))
    yield "state filled twice", _held(Filled(layer("torch.nn.modules.linear", "Identity"), {"x": 1}))
    yield "state of slots", _held(Filled(Made(Global("torch.nn.modules.linear", "Identity")), (None, {"x": 1})))
    yield "state of a mapping", _held(Filled(Ordered, {"__reduce__": 1}))
    for name in ("__class__", "__dict__", "__setstate__", "a b", "a.b", "lambda", ""):
        yield f"attribute {name!r}", _with({name: 1})
    yield "layer that is a class", _with({"_modules": {"0": Global("torch.nn.modules.linear", "Identity")}})
    yield "layer called ..", _with({}, **{"..": layer("torch.nn.modules.linear", "Identity")})
    yield "parameter that is a layer", _with({"_parameters": {"w": layer("torch.nn.modules.linear", "Identity")}})
    yield "buffer that is a name", _with({"_buffers": {"w": Global("torch", "float32")}})
    yield "attribute that is a function", _with({"f": Global("torch._utils", "_rebuild_parameter")})
    yield "attribute that is a class", _with({"f": Global("torch.nn.modules.linear", "Identity")})
    yield "names that are an object", _with({"names": Made(Global("torch.nn.modules.linear", "Identity"))})


def _tensors() -> Iterator[tuple[str, bytes]]:
    def of(**told: Any) -> bytes:
        return _with({"_buffers": {"w": tensor(**told)}})

    yield "storage of 2.5 GiB in 16 bytes", of(of=storage(count=(5 << 27)))
    yield "storage without bytes", of(of=storage(key="7"))
    yield "storage outside", of(of=storage(key="../../etc/passwd"))
    yield "storage of another kind", of(of=storage(kind="UntypedStorage"))
    yield "storage of fewer numbers", of(of=storage(count=3))
    yield "storage of negative numbers", of(of=storage(count=-4))
    yield "storage on the device meta", of(of=Persistent(("storage", Global("torch", "FloatStorage"), "0", "meta", 4)))
    yield (
        "storage with a view",
        of(of=Persistent(("storage", Global("torch", "FloatStorage"), "0", "cpu", 4, ("0", 0, 1 << 30)))),
    )
    yield "persistent id of another kind", of(of=Persistent(("module", Global("os", "system"), "x", "cpu", 4)))
    yield "persistent id that is a text", of(of=Persistent("0"))
    yield "storage of two types", _with({
        "_buffers": {"a": tensor(), "b": tensor(storage(kind="IntStorage"), (4,))},
    })  # fmt: skip
    yield "shape beyond the storage", of(shape=(1 << 20, 1 << 10), strides=(0, 0))
    yield "strides beyond the storage", of(shape=(2, 2), strides=(100, 1))
    yield "offset beyond the storage", of(offset=1 << 30)
    yield "negative offset", of(offset=-1)
    yield "negative stride", of(strides=(-1,))
    yield "shape without strides", of(shape=(2, 2), strides=(1,))
    yield "seventy dimensions", of(shape=(1,) * 70, strides=(1,) * 70)
    yield "shape of texts", of(shape=("4",), strides=(1,))
    yield "tensor with hooks", of(hooks={"0": Global("torch", "device")})
    yield "parameter with hooks", _with({"_parameters": {"w": parameter(hooks={"0": 1})}})
    yield "parameter of a parameter", _with({"_parameters": {"w": parameter(parameter())}})
    large = tensor(storage(count=1 << 18), (1 << 18,))
    buffers = {"_buffers": {f"w{n}": large for n in range(1000)}}
    yield "one storage a thousand times", archive(pickled({"model": network(buffers)}), {"0": bytes(1 << 20)})
    yield "a tensor as a call's arguments", _held(Opcodes(written(Ordered.function) + written(tensor()) + b"R"))


def _opcodes() -> Iterator[tuple[str, bytes]]:
    sound = pickled({"model": network()})
    raw = {
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
        "STACK_GLOBAL in protocol 2": b"\x80\x02X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.",
        "INST": b"\x80\x02(X\x01\x00\x00\x00xios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.",
        "NEWOBJ_EX": b"\x80\x02ctorch.nn.modules.linear\nIdentity\n)}\x92.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"\x80\x02Pstorage\n.",
        "STRING": b"\x80\x02S'x'\n.",
        "UNICODE": b"\x80\x02V\\u0041\n.",
        "INT": b"\x80\x02I1\n.",
        "LONG": b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.",
        "LONG4 of a megabyte": b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b".",
        "DUP": b"\x80\x02}2.",
        "POP": b"\x80\x02}0}.",
        "FRAME": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        "BYTEARRAY8": b"\x80\x02\x96" + struct.pack("<Q", 1 << 40) + b".",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "protocol 0": b"(dS'model'\nI1\ns.",
        "protocol 4": pickled({"model": network()}, protocol=4),
        "protocol 255": pickled({"model": network()}, protocol=255),
        "protocol twice": b"\x80\x02\x80\x02}.",
        "text of 4 GiB": b"\x80\x02X\xff\xff\xff\xff.",
        "text that is no UTF-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
        "memo at 2**32": b"\x80\x02}r\xff\xff\xff\xff.",
        "memo out of order": b"\x80\x02}q\x05.",
        "memo that is not there": b"\x80\x02h\x00.",
        "memo overwritten": b"\x80\x02}q\x00]q\x00.",
        "no mark": b"\x80\x02}e.",
        "items of a text": b"\x80\x02X\x01\x00\x00\x00x(NNu.",
        "a key without a value": b"\x80\x02}(Nu.",
        "a key that is a list": b"\x80\x02}]Ns.",
        "nothing on the stack": b"\x80\x02.",
        "values left behind": b"\x80\x02}}.",
        "no end": b"\x80\x02}",
        "nothing": b"",
        "two pickles": sound + pickled(Called(Global("os", "system"), (_TOUCH,))),
        "bytes after the end": sound + b"\n",
        "bytes before the start": b"\n" + sound,
        "a byte that is no opcode": b"\x80\x02\xff.",
    }
    for title, content in raw.items():
        yield f"opcode {title}", archive(content)


def _bombs() -> Iterator[tuple[str, bytes]]:
    levels = b"".join(b"]q" + bytes([n + 1]) + b"(h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(60))
    yield "lists that double sixty times", _with({"a": Opcodes(b"](]q\x00" + levels + b"e")})
    yield "lists a hundred thousand deep", _with({"a": Opcodes(b"]" * 100_000 + b"a" * 99_999)})
    yield "a list in itself", _with({"a": Opcodes(b"]q\x00h\x00a")})
    yield "a mapping in itself", _with({"a": Opcodes(b"}q\x00X\x01\x00\x00\x00xh\x00s")})
    yield "a layer in itself", archive(
        pickled({"model": Opcodes(written(Made(Global("ultralytics.nn.tasks", "DetectionModel"))) + b"q\x00" + written({
            "training": False, "_parameters": {}, "_buffers": {}, "yaml": DESCRIBED,
            "_modules": {"0": Opcodes(b"h\x00")},
        }) + b"b")})
    )  # fmt: skip
    deep: Any = layer("torch.nn.modules.linear", "Identity")
    for _ in range(60):
        deep = layer("torch.nn.modules.container", "Sequential", **{"0": deep})
    yield "layers sixty deep", _with({}, model=deep)
    yield "a million empty tuples", archive(b"\x80\x02(" + b")" * 1_100_000 + b"t.")
    yield "a pickle of nine megabytes", archive(b"\x80\x02" + b"N" * (9 << 20) + b".")
    yield "marks alone", archive(b"\x80\x02" + b"(" * 900_000 + b"N.")
    yield "an attribute of a megabyte", _with({"a": "x" * (1 << 20)})
    yield (
        "keys that collide",
        _held(
            Opcodes(
                b"}(" + b"".join(b"\x8a\x08" + struct.pack("<q", n * (2**61 - 1)) + b"N" for n in range(1, 4)) + b"u"
            )
        ),
    )


def _descriptions() -> Iterator[tuple[str, bytes]]:
    def of(**told: Any) -> bytes:
        return _with({"yaml": {**DESCRIBED, **told}})

    detect = [[0], 1, "Detect", ["nc"]]
    for text in (
        _OPEN, f"nn.SiLU() if {_OPEN} else 1", "nn.Module.load_state_dict()", "torch.hub.load('a', 'b')",
        "nn.modules.os.system('x')", "nn.ReLU(__import__('os'))", "nn.Linear(9**9, 9**9)",
    ):  # fmt: skip
        yield f"activation {text}", of(activation=text)
    yield "activation that is a list", of(activation=["nn.SiLU()"])
    for name in ("os.system", "TorchVision", "torchvision.ops.MLP", "nn.Bilinear", "nn.Module", "YOLO", "__import__"):
        yield f"layer {name} in the description", of(backbone=[[-1, 1, name, [8, 3, 2]]])
    yield "layer repeated", of(backbone=[[-1, 1_000_000_000, "Conv", [8, 3, 2]]])
    yield "layer of many channels", of(backbone=[[-1, 1, "Conv", [1_000_000_000, 3, 2]]])
    yield "many classes", of(nc=2_000_000_000)
    yield "wide scale", of(scales={"n": [1.0, 1e9, 1024]}, scale="n")
    yield "wide multiple", of(width_multiple=1e9)
    yield "endless scale", of(scales={"n": [float("nan"), 1.0, 1024]})
    yield "code among the arguments", of(head=[[[0], 1, "Detect", [_OPEN]]])
    yield "a tuple that is evaluated", of(head=[[[0], 1, "Detect", ["(9**9**9,)"]]])
    yield "ten thousand rows", of(head=[detect] * 10_000)
    yield "no description", _with({"yaml": None})
    yield "a description that is a path", _with({"yaml": "/etc/passwd"})


def _archives() -> Iterator[tuple[str, bytes]]:
    sound = pickled({"model": network()})
    whole = archive(sound)
    yield "not an archive", b"not an archive"
    yield "empty", b""
    yield "a pickle alone", sound
    yield "cut off", whole[:-30]
    yield "junk before", b"\x7fELF" + whole
    yield "junk after", whole + b"x"
    yield "a second archive after", whole + archive(pickled(Called(Global("os", "system"), (_TOUCH,))))
    yield "TorchScript", archive(sound, **{"code/__torch__.py": b"import os"})
    yield "constants", archive(sound, **{"constants.pkl": sound})
    yield "a module beside", archive(sound, **{"evil.py": b"import os"})
    yield "an archive inside", archive(sound, **{"inner.zip": whole})
    yield "a leading path", archive(sound, **{"../../evil": b"x"})
    yield "big byte order", archive(sound, byteorder=b"big")
    yield "no byte order", archive(sound, byteorder=b"")
    yield "a version of 1 kB", archive(sound, version=b"3" * 1000)
    yield "a version to come", archive(sound, version=b"9\n")
    yield "no data.pkl", archive(sound).replace(b"data.pkl", b"date.pkl")
    yield "two folders", _zipped([("a/data.pkl", sound), ("b/data.pkl", sound)])
    yield "the pickle twice", _zipped([("a/data.pkl", sound), ("a/data.pk!", sound)])
    yield "the pickle with a null", _zipped([("a/data.pkl", sound), ("a/data.pkl\0x", sound)])
    yield "a compressed bomb", _zipped([("a/data.pkl", bytes(7 << 20))], zipfile.ZIP_DEFLATED)
    yield "a compressed tensor", _zipped([("a/data.pkl", sound), ("a/data/0", bytes(64 << 20))], zipfile.ZIP_DEFLATED)
    yield "thirty thousand files", _zipped([("a/data.pkl", sound), *((f"a/data/{n}", b"") for n in range(30_000))])
    yield "a size of 4 GB", _resized(sound, 0xFFFFFFF0)
    yield "an encrypted file", _flagged(sound)


def _zipped(files: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in files:
            entry = zipfile.ZipInfo(name.replace("\0", "?"))
            entry.compress_type = compression
            file.writestr(entry, content)
    return buffer.getvalue().replace(b"data.pkl?x", b"data.pkl\0x").replace(b"data.pk!", b"data.pkl")


def _resized(data: bytes, size: int) -> bytes:
    """Return an archive whose list of files claims *size* bytes for the tensor."""
    whole = bytearray(_zipped([("a/data/0", bytes(16)), ("a/data.pkl", data)]))
    at = whole.index(b"PK\x01\x02")
    whole[at + 20 : at + 28] = struct.pack("<LL", size, size)
    return bytes(whole)


def _flagged(data: bytes) -> bytes:
    whole = bytearray(_zipped([("a/data.pkl", data)]))
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    return bytes(whole)


def rows(header: Any, tensors: bytes = b"") -> bytes:
    """Return a file of safetensors with *header*."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + tensors


def described(**told: Any) -> dict[str, Any]:
    """Return the header of a converted file whose one layer is as *told*."""
    one = {
        "of": ["ultralytics.nn.tasks", "DetectionModel"], "parameters": {}, "trained": [], "buffers": {},
        "children": {},
        "attributes": {"yaml": {"mapping": [[key, value] for key, value in DESCRIBED.items()]}}, **told,
    }  # fmt: skip
    network_text = json.dumps({"layers": [one], "arguments": {"mapping": []}})
    return {"__metadata__": {"format": "retort-network-1", "network": network_text}}


def _rows() -> Iterator[tuple[str, bytes]]:
    sound = described()
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    yield "rows: header of 2**63 bytes", struct.pack("<Q", 1 << 63) + b"{}"
    yield "rows: header that is no JSON", rows(b"{" * 100)
    yield "rows: header a hundred thousand deep", rows(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    yield "rows: no description", rows({"a": one}, bytes(4))
    yield "rows: tensor beyond the file", rows({**sound, "0": {**one, "data_offsets": [0, 1 << 32]}})
    yield "rows: tensors on each other", rows({**sound, "0": one, "1": one}, bytes(4))
    yield "rows: a hole", rows({**sound, "0": {**one, "data_offsets": [4, 8]}}, bytes(8))
    yield "rows: shape of 2**40", rows({**sound, "0": {**one, "shape": [1 << 40]}}, bytes(4))
    yield "rows: something after", rows(sound, bytes(4))
    yield "rows: unknown layer", rows(described(of=["os", "system"]))
    yield "rows: layer of a list", rows(described(of=[[], {}]))
    yield "rows: children that are a number", rows(described(children=7))
    yield "rows: trained that is a number", rows(described(trained=7))
    yield "rows: layer in itself", rows(described(children={"0": 0}))
    yield "rows: layer that is not there", rows(described(children={"0": 9}))
    yield "rows: tensor that is not there", rows(described(buffers={"a": "0"}))
    yield "rows: hooks", rows(described(attributes={"_forward_hooks": {"mapping": []}}))
    yield "rows: attribute of a class", rows(described(attributes={"__class__": 1}))
    yield "rows: type by another name", rows(described(attributes={"a": {"dtype": "hub"}}))
    yield "rows: value of no kind", rows(described(attributes={"a": {"call": "os.system"}}))


TOLD = {"retort.architecture": "yolov8n", "names": '["thing"]'}
"""What makes of tensors a network: the metadata of a file that says what it is."""


def _foreign_rows() -> Iterator[tuple[str, bytes]]:
    """Yield safetensors of strangers, which name a network."""
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

    def of(told: Any, **tensors: Any) -> bytes:
        return rows({"__metadata__": told, **(tensors or {"a": one})}, bytes(4))

    def described_as(text: str) -> bytes:
        return of({**TOLD, "retort.architecture": text})

    sound = json.dumps({"__metadata__": TOLD, "a": one})
    yield "state: a name twice", rows(sound.replace("{", '{"a":1,', 1).encode(), bytes(4))
    yield "state: metadata twice", rows(sound.replace("{", '{"__metadata__":{},', 1).encode(), bytes(4))
    yield "state: metadata that are numbers", of({**TOLD, "names": 7})
    yield "state: metadata that are a list", of([TOLD])
    yield "state: no tensors", rows({"__metadata__": TOLD})
    yield "state: no names", of({"retort.architecture": "yolov8n"})
    yield "state: no architecture", of({"names": '["a"]'})
    yield "state: names that are a number", of({**TOLD, "names": "7"})
    yield "state: names with a hole", of({**TOLD, "names": "{0: a, 2: b}"})
    yield "state: names of control characters", of({**TOLD, "names": '["\\u001b[2J"]'})
    yield "state: a million names", of({**TOLD, "names": "[" + "a," * 1_000_000 + "]"})
    yield "state: names that are merged", of({**TOLD, "names": "{<<: {0: a}}"})
    yield "state: names that are made", of({**TOLD, "names": "!!python/object/apply:os.system [touch was-run]"})
    yield "state: names a hundred thousand deep", of({**TOLD, "names": "[" * 100_000})
    yield "state: an architecture by path", described_as("../../etc/passwd")
    yield "state: an architecture by address", described_as(_URL)
    yield "state: RT-DETR", described_as("rtdetr-l")
    yield "state: an architecture that is made", described_as(f"!!python/object/apply:os.system\n- {_TOUCH}")
    yield "state: an architecture of aliases", described_as("a: &a [1]\nbackbone: [*a, *a]\nhead: []")
    detect = "head: [[[0], 1, Detect, [nc]]]"
    for title, text in {
        "a function as a layer": f"backbone: [[-1, 1, os.system, [{_TOUCH!r}]]]\n{detect}",
        "code among the arguments": f"backbone: [[-1, 1, Conv, [{json.dumps(_OPEN)}]]]\n{detect}",
        "code as the activation": f"activation: {json.dumps(_OPEN)}\nbackbone: [[-1, 1, Conv, [8]]]\n{detect}",
        "a layer a billion times": f"backbone: [[-1, 1000000000, Conv, [8]]]\n{detect}",
        "a hundred layers four hundred times": "backbone: [" + "[-1, 100, Conv, [8]]," * 400 + f"]\n{detect}",
        "layers that a scale repeats": f"scales: {{n: [16, 1, 64]}}\nbackbone: [[-1, 100, C2f, [8]]]\n{detect}",
        "a layer of a billion channels": f"backbone: [[-1, 1, Conv, [1000000000]]]\n{detect}",
        "a scale that is not there": f"scale: x\nscales: {{n: [1, 1, 64]}}\nbackbone: [[-1, 1, Conv, [8]]]\n{detect}",
        "scales that are endless": f"scales: {{n: [1, .inf, 64]}}\nbackbone: [[-1, 1, Conv, [8]]]\n{detect}",
        "no layers": "backbone: 1\nhead: 2",
    }.items():
        yield f"state: {title}", described_as(text)
    yield "state: a type of the future", of(TOLD, a={**one, "dtype": "F8_E4M3"})
    yield "state: a shape of floats", of(TOLD, a={**one, "shape": [1.0]})
    yield "state: a negative shape", of(TOLD, a={**one, "shape": [-1]})
    yield "state: nine sides", of(TOLD, a={**one, "shape": [1] * 9})
    yield "state: a tensor beyond the file", of(TOLD, a={**one, "shape": [1 << 30], "data_offsets": [0, 4 << 30]})
    yield "state: tensors on each other", of(TOLD, a=one, b=one)
    yield "state: offsets backwards", of(TOLD, a={**one, "data_offsets": [4, 0]})
    yield "state: a tensor with a name of control characters", of(TOLD, **{"\x1b[2J": one})
    yield "state: a tensor with a name of a megabyte", of(TOLD, **{"a" * (1 << 20): one})


def _graphs() -> Iterator[tuple[str, bytes]]:
    """Yield ONNX files of strangers."""
    from support import graphs

    yield from graphs.malicious(TOLD)
