"""The base of every stage configuration and the number forms it takes; knows no file, no stage and no engine."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict
from pydantic.fields import FieldInfo

# K counts in powers of two (a context of 32K is 32,768 tokens); B and T count in powers of ten (10B tokens).
_SUFFIX = {"K": 1024, "B": 10**9, "T": 10**12}
_PLAIN = re.compile(r"[-+]?(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:_[0-9]{3})+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_SUFFIXED = re.compile(r"([-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)([KBT])")
_TWO_READINGS: Mapping[str, tuple[Callable[[str], str], ...]] = {
    "k": (lambda n: f"{n}e3", lambda n: f"{n}K (x 1024)"),
    "M": (lambda n: f"{n}e6", lambda n: f"{_times_1024(n)}K (x 1024)"),
    "m": (lambda n: f"{n}e6", lambda n: f"{_times_1024(n)}K (x 1024)"),
    "G": (lambda n: f"{n}e9", lambda n: f"{_times_1024(_times_1024(n))}K (x 1024)"),
    "g": (lambda n: f"{n}e9", lambda n: f"{_times_1024(_times_1024(n))}K (x 1024)"),
    "b": (lambda n: f"{n}B (x 10^9)",),
    "t": (lambda n: f"{n}T (x 10^12)",),
}
_WAYS_OUT = "write all digits (32768 or 32_768), 32K (32 x 1024), 1e6 or 10B (10 x 10^9)"


class Config(BaseModel):
    """A stage configuration: immutable, and a key nobody declared is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, allow_inf_nan=False,
        protected_namespaces=(), validate_default=True, hide_input_in_errors=True,
    )


def either(*names: str) -> AliasChoices:
    """The names one field may carry in a file, the Hugging Face name first: `Field(validation_alias=either(...))`."""
    return AliasChoices(*names)


def names_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Every name `field` may carry in a file, its own first."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return tuple(dict.fromkeys([name, *(choice for choice in choices if isinstance(choice, str))]))


def keys_of(model: type[BaseModel]) -> Mapping[str, str]:
    """Every key a file may use for `model`, mapped to the field it fills."""
    return {key: name for name, field in model.model_fields.items() for key in names_of(name, field)}


def human_int(value: object) -> int:
    """A whole number as people write it: 32768, 32_768, 32K (x 1024), 1.5K, 1e6, 10B (x 10^9), 2T (x 10^12).

    Raises ValueError with the way out for a form that has two readings (1M, 32k, 1,000, 010) or is not whole.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a whole number; {_WAYS_OUT}")
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return _whole(value, repr(value))
    text = value.strip()
    if suffixed := _SUFFIXED.fullmatch(text):
        return _scaled(suffixed[1], _SUFFIX[suffixed[2]], text)
    if _PLAIN.fullmatch(text):
        mantissa, _, exponent = text.replace("_", "").lower().partition("e")
        if int(exponent or 0) > 30:
            raise ValueError(f"`{text}` is larger than any count here; {_WAYS_OUT}")
        return _scaled(mantissa, 1, text, int(exponent or 0))
    raise ValueError(_refusal(text))


def human_float(value: object) -> float:
    """A finite real number as people write it: 3e-4, 0.001, 1_000.5; a suffix is refused, for it has two readings.

    Raises ValueError with the way out.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number; write it as 0.001 or 1e-3")
    if isinstance(value, str):
        text = value.strip()
        if not _PLAIN.fullmatch(text):
            raise ValueError(f"`{text}` is not a plain number; write it as 0.001 or 1e-3")
        value = float(text.replace("_", ""))
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return float(value)


def _scaled(mantissa: str, factor: int, text: str, exponent: int = 0) -> int:
    """Exact: no float is between the digits and the answer."""
    whole, _, fraction = mantissa.partition(".")
    numerator: int = int(whole + fraction) * factor * int(10 ** max(exponent, 0))
    result, rest = divmod(numerator, int(10 ** (len(fraction) + max(-exponent, 0))))
    if rest:
        raise ValueError(f"`{text}` is not a whole number; {_WAYS_OUT}")
    return result


def _whole(value: float, text: str) -> int:
    if not value.is_integer():
        raise ValueError(f"`{text}` is not a whole number; {_WAYS_OUT}")
    return int(value)


def _times_1024(digits: str) -> str:
    return format(float(digits.replace("_", "")) * 1024, ".15g")


def _refusal(text: str) -> str:
    head, last = text[:-1], text[-1:]
    if last and last in _TWO_READINGS and re.fullmatch(r"[-+]?[0-9_]+(\.[0-9]+)?", head):
        return f"`{text}` has two readings; write {' or '.join(way(head) for way in _TWO_READINGS[last])}"
    if re.fullmatch(r"[-+]?[0-9]{1,3}([,. '][0-9]{3})+", text):
        return f"`{text}` has two readings (thousands or a fraction); {_WAYS_OUT}"
    if re.fullmatch(r"[-+]?0[0-9_]+", text):
        return f"`{text}` has two readings (octal or decimal); write {text.lstrip('+-').lstrip('0') or '0'}"
    if "_" in text and text.replace("_", "").isdigit():
        return f"`{text}` does not group its digits by three; {_WAYS_OUT}"
    return f"`{text}` is not a whole number; {_WAYS_OUT}"


HumanInt = Annotated[int, BeforeValidator(human_int)]
HumanFloat = Annotated[float, BeforeValidator(human_float)]


def _path_text(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must be a path")
    return value


def _out_text(value: str) -> str:
    if Path(_path_text(value)).name in ("", "..") or Path(value) == Path():
        raise ValueError("must name a folder or file of its own, for what is there is replaced as a whole")
    return value


PathText = Annotated[str, AfterValidator(_path_text)]
OutText = Annotated[str, AfterValidator(_out_text)]
