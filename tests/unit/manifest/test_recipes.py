"""Recipes: inputs with types, names of their own, who waits for whom, and mistakes at their place in the recipe's file."""

from __future__ import annotations

import pytest
from support_manifest import Folder, block

WEB = """
recipe:
  name: web
  version: 1.0
  inputs:
    port: {type: int, min: 1024, max: 65535, description: where it listens}
    mode: {type: enum, choices: [fast, safe], default: safe}
    debug: {type: bool, default: false}
resources:
  config:
    type: file
    path: "/srv/web-{{inputs.port}}.conf"
    content: "port {{inputs.port}} {{inputs.mode}} {{params.site}} {{machine.self.name}}"
  serve:
    type: task
    command: serve --port {{inputs.port}}
    outputs: ["served/{{inputs.port}}"]
    env: {DEBUG: "{{inputs.debug}}"}
    depends_on: [config]
    tags: [inner]
"""
TOP = "params: {site: s}\nmachines: {box: {addr: localhost}, bax: {addr: localhost}}\nresources:\n"


def web(folder: Folder, resources: str) -> Folder:
    folder.file("recipes/web.yaml", WEB)
    return folder.manifest(TOP + resources)


def test_an_instance_becomes_resources_with_names_of_their_own(folder: Folder) -> None:
    web(folder, "  a: {type: recipe, recipe: web, machine: box, tags: [outer], inputs: {port: 8080, mode: fast}}\n")
    resources = folder.load().resources
    assert list(resources) == ["a/config", "a/serve"]
    config, serve = resources["a/config"], resources["a/serve"]
    assert (config.machines, config.fields.content) == (("box",), "port 8080 fast s box")
    assert (serve.tags, serve.fields.command, serve.fields.env) == (
        ("outer", "inner"),
        "serve --port 8080",
        {"DEBUG": "false"},
    )
    assert [(ref.text, ref.resource) for ref in serve.depends_on] == [("config", "a/config")]
    assert str(serve.spans["command"]).endswith("recipes/web.yaml:15:14")


def test_dependencies_reach_every_resource_on_both_sides(folder: Folder) -> None:
    web(
        folder,
        "  first: {type: task, command: x}\n"
        "  a: {type: recipe, recipe: web, inputs: {port: 8080}, depends_on: [first]}\n"
        "  after: {type: task, command: x, depends_on: [a]}\n"
        "  reads: {type: task, command: x, inputs: [a/serve, a/serve.8080]}\n",
    )
    resources = folder.load().resources
    up = {name: [ref.resource for ref in item.depends_on] for name, item in resources.items()}
    assert up["a/config"] == ["first"] and up["a/serve"] == ["a/config", "first"]
    assert up["after"] == ["a/config", "a/serve"]
    assert up["reads"] == ["a/serve", "a/serve"]


def test_an_instance_may_have_copies_and_a_condition(folder: Folder) -> None:
    web(
        folder,
        '  a: {type: recipe, recipe: web, for_each: ["8080", "8081"], machine: [box, bax], inputs: {port: "{{item}}"}, '
        'when: "{{machine.name}} == box"}\n'
        "  after: {type: task, command: x, depends_on: [a]}\n",
    )
    resources = folder.load().resources
    assert list(resources) == ["a-8080/config", "a-8080/serve", "a-8081/config", "a-8081/serve", "after"]
    assert resources["a-8081/serve"].fields.command == "serve --port 8081"
    assert resources["a-8081/serve"].machines == ("box",)
    assert len(resources["after"].depends_on) == 4


def test_recipes_nest_and_pass_their_inputs_on(folder: Folder) -> None:
    folder.file("recipes/pair.yaml", """
        recipe: {name: pair, inputs: {base: {type: path}}}
        resources:
          setup: {type: task, command: x}
          one: {type: recipe, recipe: leaf, inputs: {dir: "{{inputs.base}}/one"}, depends_on: [setup]}
    """).file("recipes/leaf.yaml", """
        recipe: {name: leaf, inputs: {dir: {type: path}}}
        resources:
          make: {type: task, command: "make {{inputs.dir}}", depends_on: [top]}
    """)  # fmt: skip
    folder.manifest(
        "resources:\n  top: {type: task, command: x}\n  p: {type: recipe, recipe: pair, inputs: {base: out}}\n"
    )
    made = folder.load().resources["p/one/make"]
    assert made.fields.command == "make out/one"
    assert [ref.resource for ref in made.depends_on] == ["top", "p/setup"]


def test_a_mistake_inside_a_recipe_is_shown_in_its_file(folder: Folder) -> None:
    folder.file(
        "recipes/bad.yaml",
        """
        recipe: {name: bad, inputs: {limit: {type: string}}}
        resources:
          t:
            type: task
            comand: x
            command: x
            timeout: "{{inputs.limit}}"
    """,
    )
    folder.manifest("resources:\n  r: {type: recipe, recipe: bad, inputs: {limit: soon}}\n")
    assert folder.says() == block("""
        error[unknown-key]: task `r/t` has no key `comand`
         --> recipes/bad.yaml:5:5
          |
        4 |     type: task
        5 |     comand: x
          |     ^^^^^^ did you mean `command`?
          = a task takes: command, stage, config, inputs, outputs, depends_on, machine, needs, env, retry, timeout, ...

        error[wrong-value]: `timeout` of task `r/t` must be a time above zero such as 90 (seconds), 10m or 1h30m, not `"{{inputs.limit}}"`
         --> recipes/bad.yaml:7:14
          |
        6 |     command: x
        7 |     timeout: "{{inputs.limit}}"
          |              ^^^^^^^^^^^^^^^^^^
          = `inputs.limit` is `soon`, set at m.yaml:4:50
    """)


@pytest.mark.parametrize(
    ("instance", "message", "place"),
    [
        ("recipe: web", "`a` needs the input `port`", "m.yaml:6:3"),
        ("recipe: web, inputs: {prt: 1, port: 8080}", "recipe `web` has no input `prt`", "m.yaml:6:43"),
        (
            "recipe: web, inputs: {port: soon}",
            "input `port` of `a` must be a whole number from 1024 to 65535, not `soon`",
            "m.yaml:6:49",
        ),
        (
            "recipe: web, inputs: {port: 80}",
            "input `port` of `a` must be a whole number from 1024 to 65535, not `80`",
            "m.yaml:6:49",
        ),
        ("recipe: web, inputs: {port: 8080, mode: slow}", "must be one of fast, safe, not `slow`", "m.yaml:6:61"),
        ("recipe: web, inputs: {port: 8080, debug: yes}", "must be true or false, not `yes`", "m.yaml:6:62"),
        ("recipe: wib", "there is no recipe `wib`", "m.yaml:6:29"),
        ("inputs: {}", "recipe `a` needs `recipe`", "m.yaml:6:3"),
        ("recipe: web, inputs: {port: 8080}, comand: x", "recipe `a` has no key `comand`", "m.yaml:6:56"),
        (
            "recipe: web, inputs: {port: 8080}, depends_on: [zz]",
            "depends on `zz`, which is not declared",
            "m.yaml:6:69",
        ),
    ],
)
def test_an_instance_that_does_not_fit_is_refused_at_its_place(
    folder: Folder, instance: str, message: str, place: str
) -> None:
    web(folder, f"  a: {{type: recipe, {instance}}}\n")
    found = folder.says()
    assert message in found and f"--> {place}\n" in found, found
    assert found.count("error[") == 1


def test_a_recipe_cycle_is_shown_as_its_path(folder: Folder) -> None:
    for one, other in (("ping", "pong"), ("pong", "ping")):
        folder.file(
            f"recipes/{one}.yaml", f"recipe: {{name: {one}}}\nresources:\n  r: {{type: recipe, recipe: {other}}}\n"
        )
    folder.manifest("resources:\n  a: {type: recipe, recipe: ping}\n")
    found = folder.says()
    assert "these recipes use each other: ping -> pong -> ping" in found and "--> recipes/pong.yaml:3:29" in found


def test_two_versions_of_one_recipe_are_a_conflict(folder: Folder) -> None:
    folder.file("recipes/new.yaml", "recipe: {name: web, version: 2.0}\n").file(
        "recipes/web.yaml", "recipe: {name: web, version: 1.0}\n"
    )
    folder.manifest("resources:\n  a: {type: recipe, recipe: web}\n  b: {type: recipe, recipe: new}\n")
    found = folder.says()
    assert "recipe `web` is used in versions 1.0 and 2.0" in found and "= 2.0: recipes/new.yaml:1:16" in found


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ("[{recipe: base}]", "recipe `web` requires the recipe `base`, which nothing uses"),
        ("[{recipe: other, version: 2}]", "recipe `web` requires `other` in version 2"),
        ("[{recipe: other, version: 1}]", ""),
    ],
)
def test_what_a_recipe_requires_must_be_used(folder: Folder, needs: str, message: str) -> None:
    folder.file("recipes/web.yaml", f"recipe: {{name: web, requires: {needs}}}\n").file(
        "recipes/other.yaml", "recipe: {name: other, version: 1}\n"
    )
    folder.manifest("resources:\n  a: {type: recipe, recipe: web}\n  b: {type: recipe, recipe: other}\n")
    if message:
        assert message in folder.says()
    else:
        assert folder.load().resources == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipes/web.yaml is empty"),
        ("- a\n", "recipes/web.yaml is a list"),
        ("resources: {}\n", "recipe file recipes/web.yaml needs `recipe`"),
        ("recipe: {name: w}\nresurces: {}\n", "did you mean `resources`?"),
        ("recipe: {name: w, inputs: {a: {type: enum}}}\n", "input `a` of recipe `w` is an enum without `choices`"),
        ("recipe: {name: w, inputs: {a: {type: int, default: b}}}\n", "`default` of input `a` must be a whole number"),
        ("recipe: {name: w, inputs: {a: {type: int, min: low}}}\n", "`min` of input `a` must be a whole number"),
        ("recipe: {name: w, inputs: {a: {type: number}}}\n", "cannot be `number`"),
    ],
)
def test_a_recipe_file_that_is_none_is_explained(folder: Folder, text: str, message: str) -> None:
    folder.file("recipes/web.yaml", text)
    folder.manifest("resources:\n  a: {type: recipe, recipe: web}\n  b: {type: recipe, recipe: web}\n")
    found = folder.says()
    assert message in found and found.count("error[") == 1


def test_of_a_wrong_instance_nothing_is_said_that_lies_inside_it(folder: Folder) -> None:
    folder.file("recipes/web.yaml", "recipe: {name: w}\nresources:\n  r: {type: task, command: x, outputs: [o]}\n")
    folder.manifest(
        "resources:\n  a: {type: recipe, recipe: web, priority: 1}\n"
        "  t: {type: task, command: x, depends_on: [a, a/r], triggers: [a/r]}\n  u: {type: task, command: x, depends_on: [b/r]}\n"
    )
    found = folder.says()
    assert "recipe `a` has no key `priority`" in found and "`u` depends on `b/r`, which is not declared" in found
    assert found.count("error[") == 2, found


def test_a_folder_named_as_a_recipe_is_refused(folder: Folder) -> None:
    (folder.root / "recipes" / "web.yaml").mkdir(parents=True)
    folder.manifest("resources:\n  a: {type: recipe, recipe: web}\n")
    assert "recipes/web.yaml is no file" in folder.says()
