"""The project's files on other machines: sent by content before the first task, counted as the project has them, never in anyone's way."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sshd import Network

from albor_pipeline.run import project as project_files
from cli.builder import HEAD, Project, put, there

TOOL = """
    words:
      type: task
      machine: lambda
      command: python3 tools/sort.py data/in.txt > words.txt
      inputs: [data/in.txt]
      outputs: [words.txt]
"""
SORT = "import sys\nprint(''.join(sorted(open(sys.argv[1]))), end='')\n"
RUNNER = """
    import importlib, json, sys
    if sys.argv[2:3] == ["apply"]:
        importlib.import_module("stages." + sys.argv[1]).main(json.load(open(sys.argv[3])))
    for line in sys.stdin if sys.argv[1] == "plan" else ():
        print(json.dumps({"id": json.loads(line)["id"], "plan": {}}))
"""
STAGED = """
    staged:
      type: task
      machine: lambda
      stage: one
      config: {word: hello}
      python: PYTHON
      outputs: [out.txt]
"""


@pytest.fixture
def tool(project: Project, network: Network) -> Project:
    """A project in git with a task on lambda that runs a script of it on a file of it."""
    network.add("lambda")
    project.manifest(TOOL, HEAD).file("tools/sort.py", SORT).file("data/in.txt", "two\none\n")
    project.file(".gitignore", "state/\n.albor/\nsecret*\n").file("secret.txt", "x\n").file("notes.md", "n\n")
    git(project, "init", "--quiet")
    git(project, "add", "tools", "manifests", ".gitignore")
    return project


def git(project: Project, *words: str) -> None:
    subprocess.run(["git", *words], cwd=project.root, check=True)


def files(folder: Path) -> set[str]:
    """All files of a pipeline's folder, without what the agent keeps there."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(folder)) for path in found if ".albor" not in path.parts}


PROJECT = {".gitignore", "manifests/albor.yaml", "tools/sort.py", "data/in.txt", "notes.md"}


def test_a_task_elsewhere_runs_files_of_the_project_on_files_of_the_project(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    said = tool.run("apply")
    assert said.exit == 0 and "lambda: 5 of 5 project files sent" in said.err + said.out, said
    assert there(box, "words.txt").read_text() == "one\ntwo\n"
    assert files(there(box)) == {*PROJECT, "words.txt"}, "neither what git ignores nor state is sent"
    tool.says("apply", out="Nothing to do: 1 unchanged.")


def test_what_changed_in_the_project_is_seen_by_plan_and_only_that_is_sent(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    tool.does("apply").file("data/in.txt", "four\nthree\n")
    assert "input data/in.txt changed" in tool.run("plan").out
    assert there(box, "data/in.txt").read_text() == "two\none\n", "plan sends nothing"
    said = tool.run("apply")
    assert "lambda: 1 of 5 project files sent" in said.err + said.out
    assert there(box, "words.txt").read_text() == "four\nthree\n"
    tool.file("tools/sort.py", SORT.replace("sorted(", "reversed(list(").replace("))), end", ")))), end"))
    assert "tools/sort.py" in tool.run("plan").out
    tool.does("apply").file("notes.md", "other\n")
    tool.says("apply", out="Nothing to do: 1 unchanged.")
    assert there(box, "words.txt").read_text() == "three\nfour\n" and there(box, "notes.md").read_text() == "n\n"


def test_what_somebody_changed_on_the_machine_is_kept_aside_and_named(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    put(box, "notes.md", "mine\n")
    put(box, "data", "a file where a folder has to be\n")
    said = tool.run("apply")
    assert said.exit == 0
    for path, text in (("notes.md", "mine\n"), ("data", "a file where a folder has to be\n")):
        kept = f".albor/kept/0001/project/{path}"
        assert f"what lay in the way of a project file on lambda is now {kept}" in said.err + said.out
        assert there(box, kept).read_text() == text
    assert files(there(box)) == {*PROJECT, "words.txt"}


def test_a_file_edited_on_the_machine_is_put_right_before_the_next_task(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    tool.does("apply")
    put(box, "tools/sort.py", "print('mine')\n")
    tool.says("apply", out="Nothing to do: 1 unchanged.")
    tool.does("apply", "--force")
    assert there(box, "words.txt").read_text() == "one\ntwo\n"
    assert there(box, ".albor/kept/0002/project/tools/sort.py").read_text() == "print('mine')\n"


def test_what_the_project_has_no_more_goes_unless_somebody_changed_it(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    tool.file("old/a.txt", "a\n").file("old/b.txt", "b\n").file("gone/c.txt", "c\n").does("apply")
    put(box, "old/b.txt", "mine\n")
    for path in ("old/a.txt", "old/b.txt", "gone/c.txt"):
        (tool.root / path).unlink()
    said = tool.file("data/in.txt", "x\n").run("apply")
    assert "2 taken away" in said.err + said.out
    assert files(there(box)) == {*PROJECT, "words.txt", "old/b.txt"} and not there(box, "gone").exists()


def test_links_and_executable_files_arrive_as_such(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    tool.file("run.sh", "cat data/link.txt > words.txt\n").manifest(
        "t: {type: task, machine: lambda, command: ./run.sh, inputs: [data/link.txt], outputs: [words.txt]}", HEAD
    )
    (tool.root / "run.sh").chmod(0o755)
    (tool.root / "data/link.txt").symlink_to("in.txt")
    tool.does("apply")
    assert there(box, "words.txt").read_text() == "two\none\n" and str(there(box, "data/link.txt").readlink()) == "in.txt"
    (tool.root / "run.sh").chmod(0o644)
    assert tool.file("data/in.txt", "x\n").run("apply").exit == 3
    assert not there(box, "run.sh").stat().st_mode & 0o100


def test_a_folder_of_the_project_counts_as_the_project_has_it(tool: Project, network: Network) -> None:
    box = network.boxes["lambda"]
    tool.manifest("t: {type: task, machine: lambda, command: cat data/* > words.txt, inputs: [data], outputs: [words.txt]}", HEAD)
    tool.file("data/secret.txt", "ignored\n").does("apply")
    assert there(box, "words.txt").read_text() == "two\none\n"
    put(box, "data/other.txt", "theirs\n")
    assert "Nothing to do: 1 unchanged." in tool.run("plan").out
    tool.file("data/more.txt", "more\n")
    assert "input data changed" in tool.run("plan").out


def test_a_path_that_the_project_does_not_have_is_looked_at_on_the_machine(tool: Project, network: Network) -> None:
    tool.manifest("t: {type: task, machine: lambda, command: cat big/x, inputs: [big/x]}", HEAD)
    said = tool.run("plan")
    assert said.exit == 1 and "put it there on lambda, or in the project folder where git does not ignore it" in said.err, said
    put(network.boxes["lambda"], "big/x", "x\n")
    tool.does("apply")


def test_a_folder_with_files_of_both_is_refused_by_name(tool: Project, network: Network) -> None:
    tool.manifest(
        """
        make: {type: task, machine: lambda, command: echo 1 > data/made.txt, outputs: [data/made.txt]}
        read: {type: task, machine: lambda, command: cat data/*, inputs: [data], depends_on: [make]}
        """,
        HEAD,
    )
    said = tool.run("plan")
    assert said.exit == 1 and "`read` on lambda reads `data`, where `make` writes and the project has files" in said.err, said


def test_what_a_task_makes_is_no_file_of_the_project_wherever_it_is_made(tool: Project, network: Network) -> None:
    tool.file("words.txt", "an old result of another machine\n").does("apply")
    box = network.boxes["lambda"]
    assert there(box, "words.txt").read_text() == "one\ntwo\n" and not there(box, ".albor/kept").exists()


def test_a_stage_runs_elsewhere_from_its_snapshot_in_the_interpreter_that_it_names(project: Project, network: Network) -> None:
    box = network.add("lambda")
    project.file("stages/lib/cli.py", RUNNER).file("stages/one.py", "def main(config):\n    open('out.txt', 'w').write(config['word'])\n")
    project.manifest(STAGED.replace("PYTHON", sys.executable), HEAD).does("apply")
    assert there(box, "out.txt").read_text() == "hello"
    (code,) = there(box, ".albor/code").iterdir()
    assert {str(path.relative_to(code)) for path in code.rglob("*.py")} == {"stages/lib/cli.py", "stages/one.py"}
    project.says("apply", out="Nothing to do: 1 unchanged.")
    project.edit("['word']", "['word'] + '!'", "stages/one.py").does("apply")
    assert there(box, "out.txt").read_text() == "hello!"
    project.manifest(STAGED.replace("      python: PYTHON\n", ""), HEAD)
    said = project.run("plan")
    assert said.exit == 1 and "`staged`, a stage, is on lambda and does not say which Python it runs in there" in said.err, said


@pytest.mark.soak
def test_wheels_of_the_project_are_sent_along_and_are_all_that_is_installed_from(project: Project, network: Network) -> None:
    box = network.add("lambda")
    wheel(project.root / "wheels", "1.0")
    manifest = """
        env: {type: python_env, machine: lambda, requirements: [tale_words], wheels: wheels}
        say:
          {type: task, machine: lambda, python: env, outputs: [out.txt], command: python -m tale_words > out.txt}
    """
    said = project.manifest(manifest, HEAD).run("apply")
    assert said.exit == 0, said
    assert there(box, "out.txt").read_text() == "1.0\n"
    project.says("apply", out="Nothing to do: 2 unchanged.")
    wheel(project.root / "wheels", "1.1")
    project.does("apply")
    assert there(box, "out.txt").read_text() == "1.1\n"
    shutil.rmtree(project.root / "wheels")
    said = project.run("plan")
    assert said.exit == 1 and "`env` installs from `wheels`, which holds no wheel" in said.err, said


def wheel(folder: Path, version: str) -> None:
    """A wheel of one module without dependencies."""
    folder.mkdir(exist_ok=True)
    about = f"tale_words-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tale_words-{version}-py3-none-any.whl", "w") as made:
        made.writestr("tale_words.py", f"print({version!r})\n")
        made.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tale_words\nVersion: {version}\n")
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{about}/RECORD", f"tale_words.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def test_a_project_without_git_is_sent_but_for_hidden_folders(project: Project, network: Network) -> None:
    box = network.add("lambda")
    project.manifest(TOOL, HEAD).file("tools/sort.py", SORT).file("data/in.txt", "x\n").file(".cache/big", "x\n").does("apply")
    assert files(there(box)) == {"manifests/albor.yaml", "tools/sort.py", "data/in.txt", "words.txt"}


def test_a_file_that_is_too_big_for_code_is_named_with_the_way_out(tool: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_files, "MAX_FILE_BYTES", 3)
    said = tool.run("apply")
    assert said.exit == 1 and "too much to be sent to other machines" in said.err and "let git ignore it" in said.err, said


def test_a_file_that_changes_between_plan_and_sending_stops_the_run(tool: Project, network: Network) -> None:
    tool.manifest(TOOL, f"{HEAD}policy: {{pre_apply: echo more >> notes.md}}\n")
    said = tool.run("apply")
    assert said.exit != 0 and "plan is stale: notes.md changed since it was made" in said.err, said
    assert not there(network.boxes["lambda"], "words.txt").exists()
    assert tool.manifest(TOOL, HEAD).run("apply").exit == 0


def test_a_machine_that_cannot_take_the_files_holds_only_what_needs_it(tool: Project, network: Network) -> None:
    box, _other = network.boxes["lambda"], network.add("intel")
    put(box, ".albor/kept", "a file where a folder has to be\n")
    put(box, "notes.md", "mine\n")
    tool.manifest(TOOL + "    other: {type: task, machine: intel, command: 'true'}\n", HEAD)
    said = tool.run("apply")
    assert said.exit == 6 and "lambda does not take the project's files" in said.err + said.out and "1 done" in said.out, said
    assert there(box, "notes.md").read_text() == "mine\n"
