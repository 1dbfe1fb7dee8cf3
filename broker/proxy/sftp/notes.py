"""What the recording is told of one operation (Kind.SFTP): its name, its paths, what it asks for, how it ended.

Before an operation that may change something is sent, without `result`; again, with it, before its answer is passed on.
"""

from __future__ import annotations

from broker.core.sftp import Op
from broker.proxy.sftp.files import OpenFile
from broker.proxy.sftp.packets import Request, opening_flags, shown


def note_of(request: Request, file: OpenFile | None, *, result: str = "") -> dict[str, object]:
    """The note of one operation."""
    told: dict[str, object] = {"op": request.shape.word}
    path = file.path if file is not None else request.path
    if path or request.path:
        told["path"] = shown(path)
    if request.other:
        told["to"] = shown(request.other)
    if file is not None:
        told["file"] = file.number
    if request.op is Op.OPEN:
        told["flags"] = opening_flags(request.flags)
    if request.op in (Op.READ, Op.WRITE):
        told |= {"off": request.offset, "len": request.length}
    if request.attrs:
        told |= {name: oct(value) if name == "mode" else value for name, value in request.attrs.items()}
    return told | ({"result": result} if result else {})
