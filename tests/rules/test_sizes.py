"""A file has one idea and a function one screen: at most 500 lines and 60 lines, tests included."""

from __future__ import annotations

from rules.project import PYTHON, functions, python_files, shown

FILE_LINES = 500
FUNCTION_LINES = 60


def test_no_python_file_is_longer_than_500_lines() -> None:
    sizes = {shown(path): path.read_text(encoding="utf-8").count("\n") for path in python_files(*PYTHON)}
    assert {name: lines for name, lines in sizes.items() if lines > FILE_LINES} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    found = [(shown(path), *function) for path in python_files(*PYTHON) for function in functions(path)]
    assert [f"{path}:{line} {name}: {lines} lines" for path, name, line, lines in found if lines > FUNCTION_LINES] == []


def test_the_first_line_of_every_file_says_what_it_is() -> None:
    silent = []
    for path in python_files(*PYTHON):
        text = path.read_text(encoding="utf-8")
        if text and not text.startswith(('"""', 'r"""', "#!")):
            silent.append(shown(path))
    assert silent == []
