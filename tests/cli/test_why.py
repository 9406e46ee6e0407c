"""`why` names every part of one resource's fingerprint, which of them changed, and what may follow."""

from __future__ import annotations

from cli.builder import Project


def test_a_resource_that_was_never_made_is_new(project: Project) -> None:
    said = project.chain().run("why", "words")
    assert (said.exit, said.err) == (0, "")
    assert said.out.startswith("words on localhost: never done, will run: new.\n")
    assert said.out.endswith("Then may run, if its output changes: count.\n")


def test_an_unchanged_resource_has_nothing_to_do(project: Project) -> None:
    said = project.chain().does("apply").run("why", "count")
    assert said.out.startswith("count on localhost: done in run 0001, nothing to do.\n")
    assert "  command  unchanged  wc -l < words.txt > count.txt\n" in said.out
    assert "  inputs   unchanged  words.txt (blake3:d04917cc)\n" in said.out
    assert "accept" not in said.out


def test_the_changed_part_is_named_and_the_way_to_keep_what_exists(project: Project) -> None:
    said = project.chain().does("apply").edit("wc -l", "wc -c").run("why", "count")
    assert said.out.startswith("count on localhost: done in run 0001, will run: command changed: -l -> -c.\n")
    assert "  command  changed    command changed: -l -> -c\n" in said.out
    assert said.out.endswith("To keep what exists: albor-pipeline accept count\n")


def test_an_input_that_is_still_to_be_made_is_unknown(project: Project) -> None:
    said = project.chain().does("apply").edit("sort in", "cat in").run("why", "count")
    assert "may run if words changes" in said.out
    assert "  inputs   unknown    not known until words.txt is made\n" in said.out


def test_json_has_the_same_parts(project: Project) -> None:
    document = project.chain().does("apply").edit("wc -l", "wc -c").json("why", "count")
    (resource,) = document["resources"]
    assert resource["changed"] is True
    assert {part["group"]: part["state"] for part in resource["parts"]}["command"] == "changed"


def test_an_unknown_name_gets_the_closest(project: Project) -> None:
    project.chain().says("why", "cuont", exit=1, err="""
        error[unknown-resource]: there is no resource `cuont` in manifests/albor.yaml
          = did you mean `count`?
    """)
