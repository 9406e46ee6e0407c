"""What a plan can say of a Hugging Face model folder; reads small files only and imports no torch."""

from __future__ import annotations

from pathlib import Path

from stages.lib.shape import Shape, shape_of_hf
from stages.lib.stage import Check, StageError
from stages.lib.strict_json import read_object

END_OF_TEXT = "<|endoftext|>"
_NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


def shape_in(folder: Path) -> Shape | None:
    """The shape that config.json tells, or None when it tells none."""
    try:
        return shape_of_hf(read_object(folder / "config.json"))
    except (StageError, ValueError):
        return None


def model_checks(path: str) -> list[Check]:
    """A model to read: not there yet, or every file there and of a shape that this code computes."""
    folder = Path(path)
    if not folder.exists():
        return [Check("model", "when-ready", f"{path} is not there yet")]
    lacking = [name for name in _NEEDED if not (folder / name).is_file()]
    if lacking:
        return [Check("model", "error", f"{path} has no {', '.join(lacking)}")]
    try:
        shape = shape_of_hf(read_object(folder / "config.json"))
    except (StageError, ValueError) as fault:
        return [Check("model", "error", f"{path}: {fault}")]
    size_bytes = (folder / "model.safetensors").stat().st_size
    if size_bytes < 2 * shape.parameters():
        return [Check("model", "error", f"{path}/model.safetensors holds {size_bytes:,} bytes, too few for "
                      f"{shape.parameters():,} parameters")]
    return [Check("model", "ok", f"{path}: {shape.parameters():,} parameters")]
