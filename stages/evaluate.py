"""Evaluate: bits per byte on held-out text, before and after training, beside xz; knows no engine and trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.lib.checks import apart_check, parquet_check
from stages.lib.config import Config as BaseConfig
from stages.lib.config import HumanInt, OutText, PathText
from stages.lib.device import Compute, DeviceName, DTypeName, choose
from stages.lib.files import canonical_json, digest_path, output_folder
from stages.lib.folders import model_checks, shape_in
from stages.lib.plan_text import size
from stages.lib.stage import Check, Plan, Report, Run, StageError
from stages.lib.strict_json import read_object

Count = Annotated[HumanInt, Field(ge=1)]
_RULE = ("every document is scored alone, all of its bytes, from its first token (given end-of-text) to its end-of-text "
         "token; one longer than the context in windows, each token once")


class Config(BaseConfig):
    """`stride` is how far a window moves in a long document; `train_text` primes the strongest rival."""

    model: PathText
    val_text: PathText
    train_text: PathText | None = None
    stride: Count = 128
    batch_size: Count = 16
    prompt: str = "def "
    max_new_tokens: Count = 48
    device: DeviceName = "auto"
    dtype: DTypeName = "fp32"
    threads: Count | None = None
    out: OutText


def plan(config: Config) -> Plan:
    """Judges that model, tokenizer and text are there and that the windows fit the model."""
    shape = shape_in(Path(config.model))
    reads = tuple(path for path in (config.model, config.val_text, config.train_text) if path is not None)
    checks = [*model_checks(config.model), apart_check(config.out, reads)]
    checks += [parquet_check("text", path) for path in reads[1:]]
    if shape is not None and config.stride > shape.max_position_embeddings:
        checks.append(Check("stride", "error", f"stride {config.stride} leaves out tokens: the model's context is "
                            f"{shape.max_position_embeddings}"))
    if not (Path(config.model) / "training.json").is_file() and shape is not None:
        checks.append(Check("seed", "error", f"{config.model} has no training.json, which names the seed of the untrained model"))
    rivals = "per file, one stream" + (", primed with the training text" if config.train_text else "")
    return Plan(
        "evaluate",
        (
            ("Model", (shape.text() if shape else config.model,)),
            ("Text", (f"{config.val_text}", _RULE)),
            ("Rivals", (f"xz -9e: {rivals}", "the same model untrained, from its seed")),
            ("Writes", (f"{config.out}/report.json",)),
        ),
        tuple(checks), reads=reads, writes=(config.out,),
        estimates={"parameters": shape.parameters() if shape else 0, "disk_bytes": 8192, "seconds": 40},
    )


def apply(config: Config, run: Run) -> Report:
    """Writes report.json, whose content depends on model and text only, and says it in three lines."""
    compute = choose(config.device, config.dtype, config.threads)

    import torch

    from stages.lib import hf
    from stages.lib.model import Llama
    from stages.lib.rivals import texts_of
    from stages.lib.words import open_words

    folder = Path(config.model)
    words, eos_id = open_words(folder), hf.end_of_text(folder)
    texts = texts_of(Path(config.val_text))
    if not any(texts):
        raise StageError(f"{config.val_text} holds no text")
    with ThreadPoolExecutor(1) as pool:  # xz works beside the model: it lets go of the interpreter
        rivals = pool.submit(_rivals, config, texts)
        trained = hf.read(folder, compute.device)
        untrained = Llama(hf.read_shape(folder), _seed(folder)).to(compute.device).eval()
        judged = {}
        for number, (name, model) in enumerate((("trained", trained), ("untrained", untrained)), 1):
            judged[name] = _judge(config, compute, model, words, texts, eos_id, run)
            run.progress(number, 3)
        beside = rivals.result()
    sample = _sample(config, trained, words, eos_id)
    report = _content(config, judged, beside, sample)
    with output_folder(Path(config.out)) as out:
        (out / "report.json").write_bytes(canonical_json(report))
    run.progress(3, 3)
    return Report(_metrics(report), _lines(report), {config.out: digest_path(Path(config.out))},
                  {"torch": torch.__version__}, _seed(folder))


def _seed(folder: Path) -> int:
    seed = read_object(folder / "training.json").get("seed")
    if not isinstance(seed, int):
        raise StageError(f"{folder / 'training.json'} names no seed")
    return seed


def _rivals(config: Config, texts: list[bytes]) -> dict[str, float]:
    from stages.lib.rivals import one_stream, per_file, primed, texts_of

    found = {"per_file": per_file(texts), "one_stream": one_stream(texts)}
    if config.train_text is not None:
        found["primed"] = primed(texts, texts_of(Path(config.train_text)))
    return found


def _judge(config: Config, compute: Compute, model: Any, words: Any, texts: list[bytes], eos_id: int, run: Run) -> Any:
    from stages.lib.bits import price
    from stages.lib.words import encode

    ids = encode(words, [text.decode() for text in texts])
    context = model.shape.max_position_embeddings
    return price(model, ids, sum(map(len, texts)), eos_id, context, config.stride, compute, config.batch_size, run.beat)


def _sample(config: Config, model: Any, words: Any, eos_id: int) -> str:
    from stages.lib.sample import generate
    from stages.lib.words import encode

    return str(words.decode(generate(model, encode(words, [config.prompt])[0], config.max_new_tokens, eos_id=eos_id)))


def _content(config: Config, judged: Mapping[str, Any], rivals: Mapping[str, float], sample: str) -> dict[str, Any]:
    trained, untrained = judged["trained"], judged["untrained"]
    return {
        "version": 1, "rule": _RULE, "stride": config.stride,
        "text": {"bytes": trained.text_bytes, "tokens": trained.tokens},
        **{name: {"loss": round(p.loss, 6), "bits_per_byte": round(p.bits_per_byte, 6)} for name, p in judged.items()},
        "better_than_untrained": trained.bits_per_byte < untrained.bits_per_byte,
        "xz_9e": {name: {"bits_per_byte": round(bits, 6), "beaten": trained.bits_per_byte < bits}
                  for name, bits in rivals.items()},
        "sample": {"prompt": config.prompt, "completion": sample, "temperature": 0},
    }


def _metrics(report: Mapping[str, Any]) -> dict[str, float | int | str]:
    return {
        "bits_per_byte": report["trained"]["bits_per_byte"], "loss": report["trained"]["loss"],
        "untrained_bits_per_byte": report["untrained"]["bits_per_byte"], "untrained_loss": report["untrained"]["loss"],
        "text_bytes": report["text"]["bytes"], "tokens": report["text"]["tokens"],
        **{f"xz_{name}_bits_per_byte": rival["bits_per_byte"] for name, rival in report["xz_9e"].items()},
    }


def _lines(report: Mapping[str, Any]) -> tuple[str, ...]:
    trained, untrained, sample = report["trained"], report["untrained"], report["sample"]
    rivals = ", ".join(
        f"{name.replace('_', ' ')} {rival['bits_per_byte']:.3f} ({'beaten' if rival['beaten'] else 'not beaten'})"
        for name, rival in report["xz_9e"].items()
    )
    shown = (sample["prompt"] + sample["completion"]).rstrip().splitlines()[:3]
    return (
        (f"validation {trained['bits_per_byte']:.3f} bits per byte (untrained {untrained['bits_per_byte']:.2f}) on "
        f"{size(report['text']['bytes'])} held out, loss {trained['loss']:.3f} a token"),
        f"xz -9e on the same text: {rivals}",
        f"greedy completion: {' / '.join(shown)}",
    )
