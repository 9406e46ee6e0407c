"""`graph` draws what depends on what, as text, Mermaid, dot, SVG or JSON; an edge that follows from others is left out."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from cli.builder import Project

SVG = "{http://www.w3.org/2000/svg}"
SHORT_CUT = """
a:
  type: task
  command: "true"
b:
  type: task
  command: "true"
  depends_on: [a]
c:
  type: task
  command: "true"
  depends_on: [a, b]
"""


def test_text(project: Project) -> None:
    project.manifest(SHORT_CUT).says("graph", out="""
        a@localhost
        b@localhost  <-  a@localhost
        c@localhost  <-  b@localhost
    """)


def test_mermaid(project: Project) -> None:
    project.manifest(SHORT_CUT).says("graph", "--format", "mermaid", out="""
        graph TD
          n0["a@localhost"]
          n1["b@localhost"]
          n2["c@localhost"]
          n0 --> n1
          n1 --> n2
    """)


def test_dot_of_a_target(project: Project) -> None:
    project.manifest(SHORT_CUT).says("graph", "--format", "dot", "--target", "b", out="""
        digraph pipeline {
          "a@localhost";
          "b@localhost";
          "a@localhost" -> "b@localhost";
        }
    """)


def test_json(project: Project) -> None:
    said = project.manifest(SHORT_CUT).run("graph", "--format", "json")
    document = json.loads(said.out)
    assert document["nodes"] == ["a@localhost", "b@localhost", "c@localhost"]
    assert document["edges"] == [["a@localhost", "b@localhost"], ["b@localhost", "c@localhost"]]


def test_svg_stands_every_resource_right_of_what_it_waits_for(project: Project) -> None:
    said = project.manifest(SHORT_CUT).run("graph", "--format", "svg")
    root = ElementTree.fromstring(said.out)
    assert (root.tag, root.findtext(f"{SVG}title")) == (f"{SVG}svg", "tale")
    boxes = {group.findtext(f"{SVG}text"): float(group.find(f"{SVG}rect").get("x")) for group in root.iter(f"{SVG}g")}
    assert list(boxes) == ["a@localhost", "b@localhost", "c@localhost"]
    assert boxes["a@localhost"] < boxes["b@localhost"] < boxes["c@localhost"]
    assert len(root.findall(f"{SVG}path")) == 2


def test_a_machine_may_be_called_what_it_likes(project: Project) -> None:
    head = """
    machines:
      'say "<hi>" & \\':
        addr: localhost
    """
    project.manifest("a:\n  type: task\n  command: 'true'\n  machine: 'say \"<hi>\" & \\'\n", head)
    drawn = ElementTree.fromstring(project.run("graph", "--format", "svg").out)
    assert drawn.find(f"{SVG}g").findtext(f"{SVG}text") == 'a@say "<hi>" & \\'
    assert '  "a@say \\"<hi>\\" & \\\\";' in project.run("graph", "--format", "dot").out
    assert 'n0["a@say #quot;<hi>#quot; & \\"]' in project.run("graph", "--format", "mermaid").out


def test_an_edge_through_files_is_an_edge(project: Project) -> None:
    project.chain().says("graph", out="""
        words@localhost
        count@localhost  <-  words@localhost
    """)
