"""What counts as the code of a task: statements of its import closure, never a comment, a docstring or a neighbour."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.run.code import CodeReader

FILES = {
    "stages/__init__.py": "",
    "stages/a.py": '"""Doc."""\nfrom stages.lib import used\nimport numpy as np\n\ndef f():\n    import stages.lib.late\n    return 1\n',
    "stages/b.py": "import os\nx = 1\n",
    "stages/lib/__init__.py": "",
    "stages/lib/used.py": "from . import deep\nFILES = ('stages/table.txt',)\n",
    "stages/lib/deep.py": "y = 2  # why\n",
    "stages/lib/late.py": "z = 3\n",
    "stages/lib/unused.py": "w = 4\n",
    "stages/table.txt": "1 2 3\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def closure(root: Path) -> dict[str, str]:
    reader = CodeReader(root)
    files = dict(reader.closure("stages/a.py").files)
    reader.save()
    return files


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_closure_follows_every_kind_of_import_and_stops_at_the_project(root: Path) -> None:
    assert set(closure(root)) == set(FILES) - {"stages/b.py", "stages/lib/unused.py"}
    assert CodeReader(root).closure("stages/a.py").packages == {"numpy"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stages/lib/deep.py", "# why", "# because"),
        ("stages/a.py", "Doc.", "Another doc."),
        ("stages/a.py", "return 1", "return   1"),
        ("stages/b.py", "x = 1", "x = 2"),
        ("stages/lib/unused.py", "w = 4", "w = 5"),
    ],
)
def test_what_does_not_change_what_runs_changes_nothing(root: Path, name: str, old: str, new: str) -> None:
    before = closure(root)
    edit(root, name, old, new)
    assert closure(root) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stages/a.py", "return 1", "return 2"),
        ("stages/lib/deep.py", "y = 2", "y = 3"),
        ("stages/lib/late.py", "z = 3", "z = 4"),
        ("stages/lib/__init__.py", "", "v = 1\n"),
        ("stages/table.txt", "1 2 3", "1 2 4"),
    ],
)
def test_a_changed_statement_or_data_file_is_the_only_file_that_differs(root: Path, name: str, old: str, new: str) -> None:
    before = closure(root)
    edit(root, name, old, new)
    after = closure(root)
    assert {path for path in after if after[path] != before[path]} == {name}


@pytest.mark.parametrize("value", ["sorted(Path('x').glob('*'))", "5", "{'stages/table.txt': 1}", "[name, 7]"])
def test_a_variable_of_that_name_which_lists_no_texts_names_no_data_file(root: Path, value: str) -> None:
    edit(root, "stages/lib/used.py", "('stages/table.txt',)", value)
    assert "stages/table.txt" not in closure(root)


def test_a_file_that_does_not_parse_counts_by_its_bytes(root: Path) -> None:
    (root / "stages/lib/late.py").write_text("def (:\n")
    before = closure(root)
    (root / "stages/lib/late.py").write_text("def (: #\n")
    assert closure(root)["stages/lib/late.py"] != before["stages/lib/late.py"]


def test_the_cache_never_hides_a_change(root: Path) -> None:
    first = closure(root)
    assert (root / ".albor/cache/code.json").is_file()
    (root / ".albor/cache/code.json").write_text("not json")
    assert closure(root) == first
