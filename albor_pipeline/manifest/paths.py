"""Where resources write: paths that the policy denies, and paths that only root may write. Looks at declarations only, at no disk."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from albor_pipeline.errors import Problems
from albor_pipeline.manifest.patterns import PathPattern
from albor_pipeline.model.manifest import Machine, Policy
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.build import Build
from albor_pipeline.resources.file import File
from albor_pipeline.resources.task import Task

OF_ROOT = ("/etc/", "/usr/lib/systemd/", "/boot/", "/var/lib/", "/opt/", "/usr/local/bin/", "/usr/local/sbin/")


def check_paths(
    resources: Mapping[str, Resource], machines: Mapping[str, Machine], policy: Policy, problems: Problems
) -> None:
    """Note every path that the policy denies, and warn of a file that the machine's user surely may not write."""
    denied = [PathPattern(pattern) for pattern in policy.deny_paths]
    for resource in resources.values():
        if denied:
            for field, path in sorted(set(_written(resource))):
                found = next((pattern for pattern in denied if pattern.matches(posixpath.normpath(path))), None)
                if found is not None:
                    message = f"`{resource.id}` writes `{path}`, which the policy denies: `{found.text}`"
                    problems.error("denied-path", message, resource.spans.get(field, resource.span))
        if isinstance(resource.fields, File):
            _check_rights(resource, resource.fields, machines, problems)


def _written(resource: Resource) -> Iterator[tuple[str, str]]:
    """The paths that a resource writes, on any of its machines, by the field that says so."""
    for machine in resource.machines:
        fields = resource.fields_on(machine)
        field = "target" if isinstance(fields, Build) else "path"
        path = getattr(fields, field, None)
        if path is not None:
            yield field, path
        for index, output in enumerate(fields.outputs if isinstance(fields, Task) else ()):
            yield f"outputs.{index}", output.path


def _check_rights(resource: Resource, file: File, machines: Mapping[str, Machine], problems: Problems) -> None:
    """Warn where no machine of the resource is entered as root and nothing says `sudo`."""
    users = [machines[name].user for name in resource.machines if name in machines]
    if resource.sudo or not users or any(user in (None, "root") for user in users):
        return
    field = "owner" if file.owner == "root" else "path"
    if field == "owner" or posixpath.normpath(file.path).startswith(OF_ROOT):
        what = "is owned by root" if field == "owner" else f"lies in a folder of root, `{file.path}`"
        message = f"`{resource.id}` {what}, and `{users[0]}` of `{resource.machines[0]}` may not write it"
        problems.warning("needs-root", message, resource.spans.get(field, resource.span), "", ("give it `sudo: true`",))
