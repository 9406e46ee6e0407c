"""Releases: the Python programs that look at an installed program of a release and install one. Run on the machine; knows no declaration.

They take a JSON text as their only argument, use nothing but the standard library of Python 3.9, and ask GITHUB_API where that is set.
"""

from __future__ import annotations

# Prints {"record", "content", "mode"}: what was installed, whether the file still is that, and its mode. The bytes are read only when
# the file was touched since they were last read.
LOOK = """\
import hashlib, json, os, sys
asked = json.loads(sys.argv[1])
found = {"record": None, "content": None, "mode": None}
try:
    with open(asked["record"]) as file:
        found["record"] = record = json.load(file)
except (OSError, ValueError):
    record = {}
try:
    info = os.stat(asked["path"])
    found["mode"] = "%04o" % (info.st_mode & 0o7777)
    if [info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns] == record.get("stat"):
        found["content"] = record.get("sha256")
    else:
        with open(asked["path"], "rb") as file:
            digest = hashlib.sha256()
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
        found["content"] = digest.hexdigest()
except FileNotFoundError:
    pass
except OSError as error:
    found["error"] = "%s: %s" % (asked["path"], error.strerror)
print(json.dumps(found))
"""

INSTALL = '''\
import fnmatch, gzip, hashlib, io, json, os, platform, sys, tarfile, tempfile, urllib.error, urllib.parse, urllib.request, zipfile
asked = json.loads(sys.argv[1])
BASE = os.environ.get("GITHUB_API", "https://api.github.com").rstrip("/")
NOT_PROGRAMS = (".sha256", ".sha512", ".sha256sum", ".md5", ".sig", ".asc", ".pem", ".sbom", ".json", ".txt", ".deb", ".rpm", ".apk")
MACHINES = {"x86_64": ("x86_64", "amd64", "x64"), "aarch64": ("aarch64", "arm64"), "armv7l": ("armv7", "armhf")}

def fail(text):
    sys.exit("%s: %s" % (asked["repo"], text))

def fetch(url, accept):
    headers = {"Accept": accept, "User-Agent": "albor-pipeline"}
    if os.environ.get("GITHUB_TOKEN") and url.startswith(BASE + "/"):
        headers["Authorization"] = "Bearer " + os.environ["GITHUB_TOKEN"]
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)

def release():
    which = "latest" if asked["tag"] == "latest" else "tags/" + urllib.parse.quote(asked["tag"], safe="")
    try:
        with fetch("%s/repos/%s/releases/%s" % (BASE, asked["repo"], which), "application/vnd.github+json") as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            fail("there is no release" if asked["tag"] == "latest" else "there is no release with the tag " + asked["tag"])
        fail("its releases cannot be read: HTTP %d %s" % (error.code, error.reason))

def choose(assets):
    names = [asset["name"] for asset in assets]
    if asked["pattern"]:
        fit = [asset for asset in assets if fnmatch.fnmatchcase(asset["name"], asked["pattern"])]
    else:
        words = MACHINES.get(platform.machine(), (platform.machine(),))
        programs = [asset for asset in assets if not asset["name"].endswith(NOT_PROGRAMS)]
        fit = [asset for asset in programs if "linux" in asset["name"].lower() and any(word in asset["name"].lower() for word in words)]
        fit = fit or [asset for asset in programs if asset["name"] == asked["binary"]]
    if len(fit) != 1:
        how = "no asset fits" if not fit else "%d assets fit (%s)" % (len(fit), ", ".join(asset["name"] for asset in fit))
        fail("%s %s: name one by asset_pattern; there are: %s" % (how, asked["pattern"] or "this machine", ", ".join(names) or "none"))
    return fit[0]

def told_digest(asset, assets):
    said = str(asset.get("digest") or "")
    if said.startswith("sha256:"):
        return said[len("sha256:"):]
    beside = [other for other in assets if other["name"] == asset["name"] + ".sha256"]
    if not beside:
        return None
    with fetch(beside[0]["browser_download_url"], "application/octet-stream") as answer:
        return (answer.read(1000).decode("ascii", "replace").split() or [""])[0].lower()

def download(asset, told):
    whole, digest, got = tempfile.TemporaryFile(), hashlib.sha256(), 0
    with fetch(asset["browser_download_url"], "application/octet-stream") as answer:
        sizes = [answer.headers.get("Content-Length"), asset.get("size")]
        for part in iter(lambda: answer.read(1 << 18), b""):
            digest.update(part)
            whole.write(part)
            got += len(part)
    for size in sizes:
        if size is not None and got != int(size):
            fail("%s has %s bytes, and %d came: the connection ended early; apply again" % (asset["name"], size, got))
    if told and told != digest.hexdigest():
        fail("%s has the digest sha256:%s, and the release says sha256:%s" % (asset["name"], digest.hexdigest(), told))
    whole.seek(0)
    return whole

def program(asset, whole):
    name = asset["name"].lower()
    if name.endswith((".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar")):
        archive = tarfile.open(fileobj=whole)
        inside = {item.name: item for item in archive.getmembers() if item.isfile()}
        read = archive.extractfile
    elif name.endswith(".zip"):
        archive = zipfile.ZipFile(whole)
        inside = {item.filename: item for item in archive.infolist() if not item.is_dir()}
        read = archive.open
    else:
        return gzip.GzipFile(fileobj=whole) if name.endswith(".gz") else whole
    fit = sorted((path for path in inside if path.rpartition("/")[2] == asked["binary"]), key=lambda path: (path.count("/"), path))
    if not fit:
        fail("%s holds no %s; it holds: %s" % (asset["name"], asked["binary"], ", ".join(sorted(inside)[:20]) or "nothing"))
    return read(inside[fit[0]])

def write(path, source, mode):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".albor-", dir=os.path.dirname(path) or ".")
    digest = hashlib.sha256()
    try:
        with open(descriptor, "wb") as file:
            for part in iter(lambda: source.read(1 << 18), b""):
                digest.update(part)
                file.write(part)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return digest.hexdigest()

try:
    found = release()
    assets = found.get("assets") or []
    asset = choose(assets)
    if asked.get("weigh"):
        packed = asset["name"].lower().endswith((".gz", ".tgz", ".xz", ".txz", ".bz2", ".tar", ".zip"))
        print(json.dumps([[tempfile.gettempdir(), asset.get("size")], [asked["path"], None if packed else asset.get("size")]]))
        sys.exit()
    sha256 = write(asked["path"], program(asset, download(asset, told_digest(asset, assets))), 0o755)
    info = os.stat(asked["path"])
    stat = [info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
    record = {name: asked[name] for name in ("repo", "tag", "pattern", "path")}
    record.update(release=found.get("tag_name"), asset=asset["name"], sha256=sha256, stat=stat)
    write(asked["record"], io.BytesIO((json.dumps(record) + "\\n").encode()), 0o644)
except (OSError, ValueError, KeyError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
    fail("it cannot be installed: %s" % (error,))
'''
