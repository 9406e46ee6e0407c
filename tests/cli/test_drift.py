"""`drift` names what changed behind our back, in artifacts and on the machine, and exits 4; it repairs nothing."""

from __future__ import annotations

from albor_pipeline.agent.hashing import digest_bytes
from cli.builder import Project


def _file(project: Project) -> Project:
    return project.manifest(f"""
        note:
          type: file
          path: {project.root}/note.txt
          content: hello
          mode: "0600"
    """)


def test_nothing_drifted(project: Project) -> None:
    project.chain().does("apply").says("drift", out="""
        Checked 2 converged resources on 1 machine in 0.0 s.

        0 drifted, 0 unknown, 2 as recorded.
    """)


def test_a_changed_output_is_named_with_both_digests(project: Project) -> None:
    old, new = digest_bytes(b"2\n")[:8], digest_bytes(b"mine\n")[:8]
    project.chain().does("apply").file("count.txt", "mine\n").says("drift", exit=4, out=f"""
        Checked 2 converged resources on 1 machine in 0.0 s.

          drifted  count  task  localhost  count.txt: recorded blake3:{old}, found blake3:{new}

        1 drifted, 0 unknown, 1 as recorded.
        To see and do the repair: albor-pipeline plan, then apply
    """)
    project.holds("count.txt", "mine\n")


def test_a_deleted_output_is_named(project: Project) -> None:
    project.chain().does("apply")
    (project.root / "count.txt").unlink()
    said = project.run("drift")
    assert said.exit == 4
    assert "  drifted  count  task  localhost  count.txt: deleted\n" in said.out


def test_one_changed_file_of_a_folder_is_named(project: Project) -> None:
    project.file("in.txt", "x\n").manifest("""
        parts:
          type: task
          command: mkdir -p out && for n in 1 2 3; do echo $n > out/part-$n; done
          inputs: [in.txt]
          outputs: [out]
    """).does("apply")
    said = project.file("out/part-2", "flipped\n").run("drift")
    assert said.exit == 4
    old, new = digest_bytes(b"2\n")[:8], digest_bytes(b"flipped\n")[:8]
    assert f"  drifted  parts  task  localhost  out/part-2: recorded blake3:{old}, found blake3:{new}\n" in said.out


def _parts(project: Project, count: int) -> Project:
    """A folder of so many files, made by one task."""
    return project.manifest(f"""
        parts:
          type: task
          command: mkdir -p out && for n in $(seq {count}); do echo $n > out/$n; done
          outputs: [out]
    """)


def test_what_has_no_digest_of_its_own_is_told_in_words(project: Project) -> None:
    _parts(project, 3).does("apply").file("out/9", "new\n")
    (project.root / "out/1").chmod(0o755)
    (project.root / "out/2").unlink()
    (project.root / "out/2").mkdir()
    said = project.run("drift")
    assert said.exit == 4
    for text in (
        "out/1: recorded not executable, found executable",
        f"out/2: recorded blake3:{digest_bytes(b'2' + bytes([10]))[:8]}, found folder",
        "out/9: added",
    ):
        assert f"  drifted  parts  task  localhost  {text}\n" in said.out, said.out
    assert "1 drifted, 0 unknown, 0 as recorded." in said.out and project.json("drift", exit=4)["drift_count"] == 1


def test_of_very_many_differences_the_rest_is_counted_and_other_bytes_are_never_among_the_rest(project: Project) -> None:
    _parts(project, 250).does("apply")
    for number in range(1, 250):
        (project.root / f"out/{number}").unlink()
    project.file("out/250", "mine\n")
    said = project.run("drift")
    assert said.exit == 4 and "localhost  out: 150 more\n" in said.out and "out/250: recorded blake3:" in said.out
    plan = project.run("plan").out
    assert "output out/250 modified" in plan and "(and 249 more)" in plan, plan


def test_a_changed_mode_is_named_and_apply_repairs_it(project: Project) -> None:
    _file(project).does("apply")
    (project.root / "note.txt").chmod(0o644)
    project.says("drift", exit=4, out="""
        Checked 1 converged resource on 1 machine in 0.0 s.

          drifted  note  file  localhost  mode: recorded 0600, found 0644

        1 drifted, 0 unknown, 0 as recorded.
        To see and do the repair: albor-pipeline plan, then apply
    """)
    project.does("apply", "--yes").does("drift")
    assert (project.root / "note.txt").stat().st_mode & 0o777 == 0o600


def test_a_touched_file_did_not_drift(project: Project) -> None:
    project.chain().does("apply")
    (project.root / "count.txt").touch()
    project.does("drift")


def test_json_counts_and_lists(project: Project) -> None:
    document = project.chain().does("apply").file("count.txt", "mine\n").json("drift", exit=4)
    assert (document["checked"], document["drift_count"]) == (2, 1)
    assert [(item["resource"], item["what"]) for item in document["findings"]] == [("count", "drifted")]
