"""The canonical layout: order of keys, two columns a step, one blank line at most; comments go where their key goes."""

from __future__ import annotations

import textwrap

import pytest

from albor_pipeline.errors import ManifestError, Source
from albor_pipeline.manifest.layout import formatted

UNTIDY = """
    # what it is for
    name: tale
    version: "1.0"
    policy: {failure: stop_on_first}
    outputs:
        # about the model
        model:
            description: a folder
            value: models/x


    resources:

        words:
            # about outputs
            outputs:
            - a.txt
            # before b
            -   path: b.txt
                volatile: true
                # under b
            command: |
                 for word in *; do
                   echo $word

                 done
            inputs: [one,
                two,   # why two
                three]
            # about type
            type: task   # beside type
              # still about type
        # about the file
        note: {type: file,  path:   /a}
        other:
              type: file
              content: |2
                   two more
                 none
              mode: 0644

              path: /b
        # after the last
    # the end
"""
TIDY = """
    # what it is for
    version: "1.0"
    name: tale

    resources:
      words:
        # about type
        type: task   # beside type
          # still about type
        command: |
          for word in *; do
            echo $word

          done
        inputs: [one,
            two,   # why two
            three]
        # about outputs
        outputs:
          - a.txt
          # before b
          - path: b.txt
            volatile: true
            # under b
      # about the file
      note: {type: file,  path:   /a}
      other:
        type: file

        path: /b
        content: |2
             two more
           none
        mode: 0644
      # after the last

    policy: {failure: stop_on_first}

    outputs:
      # about the model
      model:
        value: models/x
        description: a folder
    # the end
"""


def _made(text: str) -> str:
    return formatted(Source("made", text))


def _block(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def test_an_untidy_manifest_is_put_in_order() -> None:
    assert _made(_block(UNTIDY)) == _block(TIDY)


def test_what_is_in_order_stays_to_the_letter() -> None:
    assert _made(_block(TIDY)) == _block(TIDY)


def test_an_alias_keeps_its_anchor_before_it() -> None:
    text = "outputs:\n   out: &shared\n      value: 1\nname: x\nresources:\n   a: *shared\n"
    assert _made(text) == "outputs:\n  out: &shared\n     value: 1\n\nname: x\n\nresources:\n  a: *shared\n"


def test_line_ends_of_another_system_become_ours() -> None:
    assert _made("name: x\r\nversion: '1.0'\r\n") == "version: '1.0'\nname: x\n"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "[a, b]\n", "{name: x}\n", "? a\n: b\n", "just text\n"])
def test_what_is_no_manifest_stays_as_it_is(text: str) -> None:
    assert _made(text) == text


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "a: !!python/none x\n", "a:\n\t- b\n"])
def test_what_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        _made(text)


def test_the_last_text_keeps_its_end_where_the_file_ends_without_a_line_break() -> None:
    assert _made("params:\n     a: |\n       text") == "params:\n  a: |\n    text"
