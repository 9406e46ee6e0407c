"""`--env NAME` on the verbs: what runs is what the environment says, and each environment has a state of its own."""

from __future__ import annotations

from cli.builder import Project

HEAD = """
params: {word: plain}
environments:
  prod: {params: {word: real}}
"""
TASK = """
say:
  type: task
  command: echo {{params.word}} > {{params.word}}.txt
  outputs: ["{{params.word}}.txt"]
"""


def test_an_environment_runs_with_its_own_params_and_state(project: Project) -> None:
    project.manifest(TASK, HEAD)
    project.does("apply").holds("plain.txt", "plain\n").holds("real.txt", None)
    project.does("apply", "--env", "prod").holds("real.txt", "real\n")
    assert (project.root / "state/environments/prod/albor.lock.yaml").is_file()
    for argv in (["plan"], ["plan", "--env", "prod"]):
        assert project.json(*argv)["unchanged"] == 1


def test_a_lost_state_is_found_again_and_not_taken_from_another_environment(project: Project) -> None:
    project.manifest(TASK, HEAD).does("apply", "--env", "prod")
    assert project.json("plan")["to_create"] == 1
    project.does("apply")
    (project.root / "state").rename(project.root / "gone")
    for argv in (["plan", "--env", "prod"], ["plan"]):
        assert project.json(*argv)["steps"][0]["action"] == "adopt"


def test_an_unknown_environment_ends_every_verb_with_its_place(project: Project) -> None:
    project.manifest(TASK, HEAD)
    for verb in ("validate", "plan", "graph", "apply", "status", "drift"):
        said = project.run(verb, "--env", "prd")
        assert said.exit == 1 and "there is no environment `prd`" in said.err and "did you mean `prod`?" in said.err
    project.says("validate", "--env", "prod", out="OK: tale (1 machine, 1 resource)")
