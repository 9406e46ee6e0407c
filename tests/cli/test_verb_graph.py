"""`graph` draws what depends on what, as text, Mermaid, dot or JSON; an edge that follows from others is left out."""

from __future__ import annotations

from cli.builder import Project

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
    assert '"edges": [' in said.out and said.exit == 0


def test_an_edge_through_files_is_an_edge(project: Project) -> None:
    project.chain().says("graph", out="""
        words@localhost
        count@localhost  <-  words@localhost
    """)
