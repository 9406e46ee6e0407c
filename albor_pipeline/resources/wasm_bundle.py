"""WasmBundle: a WebAssembly module of the project on a machine. A file whose first bytes must be those of WebAssembly; runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from albor_pipeline.errors import ManifestError
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.file import FileKind

MAGIC = b"\0asm"


class WasmBundleKind(FileKind):
    """The kind `wasm_bundle`: a file, refused at plan time when its source is no WebAssembly."""

    name: ClassVar[str] = "wasm_bundle"

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """As for a file; ManifestError for a source that begins with other bytes, or for none."""
        fields = one.fields
        if fields.state == "absent":
            return super().wanted(one)
        if fields.source is None or fields.state != "file":
            message = f"`{one.resource.id}` needs `source`, a WebAssembly module of the project, or `state: absent`"
            raise ManifestError.of("no-source", message, span=one.place("type"))
        begins = one.read("source", fields.source)[: len(MAGIC)]
        if begins != MAGIC:
            message = f"`{one.resource.id}` copies `{fields.source}`, no WebAssembly: it begins with {begins.hex(' ') or 'nothing'}"
            raise ManifestError.of("not-wasm", message, span=one.place("source"))
        return super().wanted(one)
