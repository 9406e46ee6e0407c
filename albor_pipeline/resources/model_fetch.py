"""A program for machines: gets the files of a model. Standard library only (Python >= 3.9); its text is sent, it is never imported here.

Reads {"source", "shown", "revision", "format", "quantization", "path", "part", "cache", "record", "single", "token"} on stdin; `shown` is
the source as it may be recorded. What it gets is put together at PART/result, with PART/record.json beside it; a download that was cut off
lies in PART/files/NAME.part and goes on there. With `weigh` it gets nothing, and writes {"weight": [[path, bytes to come there or null]]}.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional

File = tuple[str, str, Optional[int], Optional[str]]
TRIES, SILENCE_S, CHUNK = 6, 60.0, 1 << 20
PAUSE_S = float(os.environ.get("ALBOR_TEST_PAUSE_S") or 1.0)
HUB = "https://huggingface.co"
WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".ckpt", ".mlmodel", ".npz")
SPARE_BYTES = 64 << 20
FICLONE = 0x40049409


class CutError(Exception):
    """A connection that ended too early."""


class SameHost(urllib.request.HTTPRedirectHandler):
    """The token follows a redirect only to where it was meant for."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request; with what only the first host may see where it is the same host."""
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and urllib.parse.urlsplit(newurl)[:2] == urllib.parse.urlsplit(req.full_url)[:2]:
            for name, value in req.unredirected_hdrs.items():
                made.add_unredirected_header(name, value)
        return made


def request(url: str, token: str, headers: Iterable[tuple[str, str]] = ()) -> Any:
    """The answer to a GET; a user in the address, or a token, authorises it."""
    parts = urllib.parse.urlsplit(url)
    account, _at, host = parts.netloc.rpartition("@")
    made = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "albor", **dict(headers)})
    if token:
        made.add_unredirected_header("Authorization", "Bearer " + token)
    elif account:
        words = base64.b64encode(urllib.parse.unquote(account).encode()).decode()
        made.add_unredirected_header("Authorization", "Basic " + words)
    return urllib.request.build_opener(SameHost).open(made, timeout=SILENCE_S)


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def hub_token(given: str) -> str:
    """The token for the hub: the given one, else the account's own."""
    if given or os.environ.get("HF_TOKEN"):
        return given or os.environ["HF_TOKEN"]
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    try:
        with open(os.path.join(home, "token")) as file:
            return file.read().strip()
    except OSError:
        return ""


def hub_files(asked: Any) -> tuple[str, list[File]]:
    """The commit, and (name, address, size, sha256) of each file of a repository that is wanted."""
    base = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    revision = urllib.parse.quote(asked.get("revision") or "main", safe="")
    address = "%s/api/models/%s/revision/%s?blobs=true" % (base, asked["source"], revision)
    listing = ask(address, asked["token"]) if asked.get("weigh") else patiently(lambda: ask(address, asked["token"]))
    commit = str(listing.get("sha") or revision)
    files = []
    for item in listing.get("siblings") or ():
        name = str(item["rfilename"])
        if name.startswith("/") or ".." in name.split("/"):
            sys.exit("the hub names a file that leads out of the model's folder: %s" % name)
        lfs = item.get("lfs") or {}
        address = "%s/%s/resolve/%s/%s" % (base, asked["source"], urllib.parse.quote(commit, safe=""), urllib.parse.quote(name))
        files.append((name, address, lfs.get("size", item.get("size")), lfs.get("sha256")))
    return commit, chosen(files, asked)


def ask(url: str, token: str) -> Any:
    """The JSON at an address."""
    with request(url, token) as answer:
        return json.load(answer)


def chosen(files: list[File], asked: Any) -> list[File]:
    """The files of the wanted format and quantization, with all that is small beside them."""
    form, word = (asked.get("format") or "").lower(), (asked.get("quantization") or "").lower()
    weights = [file for file in files if file[0].lower().endswith((*WEIGHTS, "." + form) if form else WEIGHTS)]
    mine = [file for file in weights if not form or file[0].lower().endswith("." + form)]
    told = [file for file in mine if word and word in re.split(r"[^a-z0-9_]+", file[0].lower().replace("-", "."))]
    mine = told or [file for file in mine if word and word in file[0].lower()] or mine
    if not mine:
        sys.exit("%s has no file of format %s: there is %s" % (asked["source"], form or "of a model", names(files)))
    if not asked["single"]:
        return mine + [file for file in files if file not in weights and not fnmatch.fnmatch(file[0], ".git*")]
    if len(mine) != 1:
        sys.exit("%s has %d such files, and one is to be at %s: %s" % (asked["source"], len(mine), asked["path"], names(mine)))
    return mine


def names(files: Sequence[File]) -> str:
    """The names of files, as far as a sentence has room."""
    listed = [file[0] for file in files]
    return ", ".join(listed[:8]) + (" and %d more" % (len(listed) - 8) if len(listed) > 8 else "") if listed else "nothing"


def patiently(do: Callable[[], Any], progress: Callable[[], int] = lambda: 0) -> Any:
    """The result of `do`, tried again where the line or the server failed; the end where that is no use, or nothing comes any more."""
    turn, before = 0, progress()
    while True:
        try:
            return do()
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                hint = {401: ": a token is needed", 403: ": the token has no access", 404: ": there is no such file, model or revision"}
                sys.exit("%s: HTTP %d%s" % (shown(error.geturl() or ""), error.code, hint.get(error.code, "")))
            why = "HTTP %d" % error.code
        except (CutError, OSError, ValueError, http.client.HTTPException) as error:
            why = str(getattr(error, "reason", error))
        turn, before = (0 if progress() > before else turn + 1), progress()
        if turn == TRIES:
            sys.exit("the download failed %d times, the last time with: %s" % (TRIES, why))
        time.sleep(PAUSE_S * turn)


def known_size(url: str, token: str) -> int | None:
    """How long the file at an address is, None where the server does not say."""
    try:
        with request(url, token, [("Range", "bytes=0-0")]) as answer:
            head = answer.headers
            whole = head.get("Content-Range", "").rpartition("/")[2] if answer.status == 206 else head.get("Content-Length") or ""
            return int(whole) if whole.isdigit() else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def download(url: str, token: str, part: str, size: int | None, proven: bool) -> None:
    """Bring `part` to its end: from the byte where it stopped, or from the first one where the server cannot or the file is another."""
    mark = part + ".etag"
    have = os.path.getsize(part) if os.path.exists(part) else 0
    if size is not None and have == size:
        return
    headers = [("Range", "bytes=%d-" % have)] if have and (proven or os.path.exists(mark)) else []
    if headers and os.path.exists(mark):
        with open(mark) as file:
            headers.append(("If-Range", file.read()))
    try:
        answer = request(url, token, headers)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        os.unlink(part)
        raise CutError("the server has less than what is there already") from None
    with answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith("bytes %d-" % have)
        if answer.status == 206 and not goes_on:
            raise CutError("the server sent another part than was asked for")
        keep_mark(mark, answer.headers)
        receive(answer, part, goes_on)
    if size is not None and os.path.getsize(part) != size:
        have = os.path.getsize(part)
        if have > size:
            os.unlink(part)
        raise CutError("%d bytes came, and %d should have" % (have, size))


def keep_mark(mark: str, headers: Any) -> None:
    """Note by what the server knows this version of the file again."""
    tag = headers.get("ETag") or ""
    known = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""
    if known:
        with open(mark, "w") as file:
            file.write(known)
    elif os.path.exists(mark):
        os.unlink(mark)


def receive(answer: Any, part: str, goes_on: bool) -> None:
    """Write what comes, at the end of `part` or instead of it."""
    length, got = answer.headers.get("Content-Length"), 0
    with open(part, "ab" if goes_on else "wb") as file:
        for data in iter(lambda: answer.read(CHUNK), b""):
            file.write(data)
            got += len(data)
        file.flush()
        os.fsync(file.fileno())
    if length is not None and got != int(length):
        raise CutError("the connection ended after %d of %s bytes" % (got, length))


def sha256_of(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        for data in iter(lambda: file.read(CHUNK), b""):
            hasher.update(data)
    return hasher.hexdigest()


def make_room(folder: str, need: int) -> None:
    """The end where a disk has too little room."""
    free = shutil.disk_usage(folder).free
    if need + SPARE_BYTES > free:
        sys.exit("%.1f GB are to be fetched, and %.1f GB are free in %s" % (need / 1e9, free / 1e9, folder))


def fetch(files: Sequence[File], folder: str, token: str) -> dict[str, str]:
    """Get every file: name -> SHA-256; those that are there already are taken where they are the announced ones."""
    for name, _url, size, digest in files:
        path = os.path.join(folder, name)
        if os.path.exists(path) and (os.path.getsize(path) != (size or os.path.getsize(path)) or digest not in (None, sha256_of(path))):
            os.unlink(path)
    missing, have = lacking(files, folder)
    make_room(folder, sum(file[2] or 0 for file in missing) - have)
    for name, url, size, digest in missing:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        one(url, size, digest, path + ".part", token)
        os.rename(path + ".part", path)
    return {file[0]: file[3] or sha256_of(os.path.join(folder, file[0])) for file in files}


def lacking(files: Sequence[File], folder: str) -> tuple[list[File], int]:
    """The files that are not in the folder, and how many bytes of them are."""
    missing = [file for file in files if not os.path.exists(os.path.join(folder, file[0]))]
    parts = [os.path.join(folder, file[0] + ".part") for file in missing]
    return missing, sum(os.path.getsize(part) for part in parts if os.path.exists(part))


def weigh(files: Sequence[File], folder: str, copied_to: str) -> list[tuple[str, int | None]]:
    """How much would come to the folder, and from there to where it is copied, if it is."""
    missing, have = lacking(files, folder)
    sizes = [file[2] for file in missing]
    fetched = None if None in sizes else sum(size or 0 for size in sizes) - have
    whole = None if None in [file[2] for file in files] else sum(file[2] or 0 for file in files)
    return [(folder, fetched), *([(copied_to, whole)] if copied_to else [])]


def one(url: str, size: int | None, digest: str | None, part: str, token: str) -> None:
    """Get one file, and see that it is the announced one."""
    patiently(lambda: download(url, token, part, size, digest is not None), lambda: os.path.getsize(part) if os.path.exists(part) else 0)
    if os.path.exists(part + ".etag"):
        os.unlink(part + ".etag")
    if digest is not None and sha256_of(part) != digest:
        os.unlink(part)
        sys.exit("%s: its SHA-256 is not %s, which was announced; it was removed" % (shown(url), digest))


def copy(source: str, target: str) -> dict[str, str]:
    """Copy a file or folder of this machine, and read what was written once more."""
    pairs = files_here(os.path.expanduser(source))
    make_room(target, sum(os.path.getsize(each) for each, _name in pairs))
    digests = {}
    for each, name in pairs:
        path = os.path.join(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(each, path)
        digests[name] = sha256_of(path)
        if digests[name] != sha256_of(each):
            sys.exit("%s: other bytes were written than were read" % name)
    return digests


def files_here(source: str) -> list[tuple[str, str]]:
    """The file, or all files of the folder: (path, name); the end where there is none."""
    if not os.path.exists(source):
        sys.exit("there is no %s on this machine to take it from" % source)
    if os.path.isdir(source):
        there = [os.path.join(folder, name) for folder, _below, names in os.walk(source, followlinks=True) for name in names]
        pairs = [(each, os.path.relpath(each, source)) for each in there]
    else:
        pairs = [(source, os.path.basename(source))]
    if not pairs:
        sys.exit("there is no file in %s" % source)
    return pairs


def twin(source: str, target: str) -> None:
    """A copy that shares the room on disk where the file system can: writing to one never changes the other."""
    import fcntl

    try:
        with open(source, "rb") as one_file, open(target, "wb") as other_file:
            fcntl.ioctl(other_file.fileno(), FICLONE, one_file.fileno())
    except OSError:
        shutil.copyfile(source, target)


def assemble(asked: Any, folder: str, digests: dict[str, str], single: bool) -> dict[str, Any]:
    """PART/result of the files, copied where they are kept, else moved; what is recorded of each."""
    result, record = os.path.join(asked["part"], "result"), {}
    for name, digest in digests.items():
        target = result if single else os.path.join(result, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        kept = os.path.join(folder, name)
        if asked.get("cache"):
            twin(kept, target)
        else:
            os.rename(kept, target)
        info = os.stat(target)
        record["" if single else name] = {"size": info.st_size, "mtime_ns": info.st_mtime_ns, "sha256": digest}
    return record


def begin(asked: Any, wish: Any, folder: str) -> None:
    """PART as it should be: what was got for another wish is gone, what was put together before an end that never came is taken apart."""
    part, note = asked["part"], os.path.join(asked["part"], "of.json")
    result = os.path.join(part, "result")
    os.makedirs(part, exist_ok=True)
    try:
        with open(note) as file:
            same = json.load(file) == wish
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(part)
    elif os.path.isdir(result):
        shutil.rmtree(result if asked.get("cache") else folder, ignore_errors=True)
        if not asked.get("cache"):
            os.rename(result, folder)
    elif os.path.exists(result):
        os.unlink(result) if asked.get("cache") else os.rename(result, os.path.join(folder, "file"))
    os.makedirs(folder, exist_ok=True)
    os.makedirs(part, exist_ok=True)
    with open(note, "w") as file:
        json.dump(wish, file)


def main() -> None:
    """Get what stdin asks for."""
    asked = json.load(sys.stdin)
    asked.update({name: os.path.expanduser(asked[name]) for name in ("path", "part", "record", "cache") if asked.get(name)})
    source, single, commit = asked["source"], bool(asked["single"]), None
    wish = {"source": asked["shown"], **{name: asked.get(name) for name in ("revision", "format", "quantization", "single")}}
    folder = asked.get("cache") or os.path.join(asked["part"], "files")
    if asked["hub"]:
        asked["token"] = hub_token(asked["token"])
        commit, files = hub_files(asked)
        folder = os.path.join(folder, urllib.parse.quote(commit, safe="")) if asked.get("cache") else folder
        files = [("file", *files[0][1:])] if single else files
    elif re.match("https?://", source):
        name = "file" if single else os.path.basename(urllib.parse.urlsplit(source).path) or "file"
        files = [(name, source, known_size(source, asked["token"]), None)]
    else:
        files = []
    if asked.get("weigh"):
        here = [(name, "", os.path.getsize(each), None) for each, name in ([] if files else files_here(os.path.expanduser(source)))]
        json.dump({"weight": weigh(files or here, folder, asked["path"] if asked.get("cache") else "")}, sys.stdout)
        return
    begin(asked, {**wish, "commit": commit}, folder)
    if files:
        digests = fetch(files, folder, asked["token"])
    else:
        digests = copy(source, folder)
        single = single and not os.path.isdir(os.path.expanduser(source))
    record = {**wish, "commit": commit, "files": assemble(asked, folder, digests, single)}
    with open(os.path.join(asked["part"], "record.json"), "w") as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
