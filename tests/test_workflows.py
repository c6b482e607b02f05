"""The workflows, the action and the scripts that they call: what starts them, what they may do, and that every command
in them is one that there is. The scripts run here with programs that only write down how they were called.
"""

import contextlib
import os
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml
from conftest import ROOT

from seqbench.cli import parse

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / "action.yml"
EXAMPLE = ROOT / "docs" / "examples" / "regress.yml"
FILES = [*WORKFLOWS, ACTION, EXAMPLE]
SCRIPTS = sorted(path for path in (ROOT / ".ci").iterdir() if path.name != "environment")  # which they read
OWN = re.compile(r"OWNER/seqbench@[\w.-]+")  # no commit can name itself: the example tells its reader to
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

STUB = r"""#!/usr/bin/env bash
{ printf '%q ' "${0##*/}" "$@"; echo; } >> "$CALLS"
case "${0##*/} ${1:-} ${2:-}" in
  "python -m venv") mkdir -p "$3/bin"; cp "${0%/*}"/* "$3/bin" ;;
  "seqbench regress run")
    [ -z "${SUMMARY:-}" ] || { mkdir -p "$OUT"; echo "$SUMMARY" > "$OUT/regress.md"; }
    exit "$CODE" ;;
  "gh run list") printf '11\n12\n13\n' ;;
  "gh run download") [ "$3" != 12 ] || exit 1; mkdir -p "$5/regress-1" ;;
esac
"""


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def read(path):
    """A file of YAML; the key ``on``, which YAML 1.1 takes for true, is called that again."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in content.items()}


def jobs(path):
    return read(path).get("jobs", {})


def steps(path):
    content = read(path)
    if "runs" in content:
        return content["runs"]["steps"]
    return [step for job in content["jobs"].values() for step in job["steps"]]


def strings(content):
    """All values in a file, however deep."""
    if isinstance(content, dict):
        content = [*content.values()]
    return [text for item in content for text in strings(item)] if isinstance(content, list) else [str(content)]


def test_there_are_workflows_for_tests_and_benchmarks():
    assert [path.name for path in WORKFLOWS] == ["bench.yml", "tests.yml"]


@by_name(WORKFLOWS)
def test_workflows_start_at_pull_requests_and_pushes_to_main(path):
    assert read(path)["on"] == {"pull_request": None, "push": {"branches": ["main"]}}


@by_name([*WORKFLOWS, EXAMPLE])
def test_nothing_may_do_more_than_read_the_repository(path):
    assert read(path)["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in jobs(path).values())
    assert not any("secrets." in text or "github.token" in text for text in strings(read(path)))


@by_name([*WORKFLOWS, EXAMPLE])
def test_a_strangers_code_never_runs_with_the_rights_of_the_base(path):
    assert not {"pull_request_target", "workflow_run"} & set(re.findall(r"\w+", str(read(path)["on"])))


@by_name(FILES)
def test_every_action_is_pinned_to_a_commit_whose_version_is_named(path):
    lines = re.findall(r"^.*\buses: *(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(lines) == len([step for step in steps(path) if "uses" in step]) > 0
    for line in lines:
        own = path == EXAMPLE and OWN.match(line)
        assert own or re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_pin_in_all_files():
    used = {step["uses"] for path in FILES for step in steps(path) if "uses" in step}
    assert len({name.partition("@")[0] for name in used}) == len(used)


@by_name([*WORKFLOWS, EXAMPLE])
def test_a_checkout_leaves_no_credentials(path):
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("path", [ROOT / ".github" / "workflows" / "bench.yml", EXAMPLE], ids=lambda path: path.name)
def test_the_gate_has_the_history(path):
    assert steps(path)[0]["with"]["fetch-depth"] == 0


@by_name(WORKFLOWS)
def test_packages_are_cached_by_the_lock_file(path):
    (python,) = [step["with"] for step in steps(path) if step.get("uses", "").startswith("actions/setup-python@")]
    assert python["cache"] == "pip"
    named = {file.name for file in ROOT.glob(python["cache-dependency-path"])}
    assert named == {"requirements.txt", "requirements-dev.txt"}


@by_name(WORKFLOWS)
def test_old_runs_of_a_pull_request_end_and_none_runs_for_ever(path):
    content = read(path)
    assert content["concurrency"]["cancel-in-progress"] is True
    assert "pull_request.number || github.sha" in content["concurrency"]["group"]  # a push to main ends no other
    assert all(0 < job["timeout-minutes"] <= 120 for job in content["jobs"].values())


def test_the_tests_run_on_each_python_that_is_promised():
    strategy = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]
    assert strategy["matrix"]["python"] == ["3.11", "3.12", "3.13"] and strategy["fail-fast"] is False
    promised = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if " Python :: 3" in text]
    assert promised == strategy["matrix"]["python"]


@by_name(FILES)
def test_no_expression_stands_in_a_shell(path):
    """What a stranger calls a branch must not become a command: values come through the environment."""
    for step in steps(path):
        assert "${{" not in step.get("run", "") and "env." not in step.get("shell", "")


@by_name(FILES)
def test_every_command_of_a_step_exists(path):
    runs = [step["run"] for step in steps(path) if "run" in step]
    assert runs or path == EXAMPLE
    for run in runs:
        assert subprocess.run(["bash", "-n"], input=run, text=True).returncode == 0
        for line in run.splitlines():
            words = shlex.split(line.replace("$GITHUB_ACTION_PATH", str(ROOT)), comments=True)
            script = ROOT / words[0]
            assert words[:3] == ["python", "-m", "pip"] or (script in SCRIPTS and os.access(script, os.X_OK)), line


@by_name(WORKFLOWS)
def test_a_workflow_only_calls_scripts(path):
    """So that what it does can be done on any machine."""
    assert all(re.fullmatch(r"\.ci/\w+", step["run"]) for step in steps(path) if "run" in step)


def test_what_was_measured_is_kept_also_of_a_regression():
    for path, name, out in (
        (ROOT / ".github" / "workflows" / "bench.yml", "sha", "results/local/regress"),
        (ACTION, "inputs.artifact", "${{ runner.temp }}/regress/${{ inputs.artifact }}"),
    ):
        upload = steps(path)[-1]
        assert upload["uses"].startswith("actions/upload-artifact@") and upload["if"] == "${{ !cancelled() }}"
        assert upload["with"]["path"] == out and name in upload["with"]["name"]
        set_out = [
            place["env"]["OUT"] for place in (*jobs(path).values(), *steps(path)) if "OUT" in place.get("env", {})
        ]
        assert set_out == [out]


def test_every_input_of_the_action_is_declared_used_and_described():
    content = read(ACTION)
    used = set(re.findall(r"\binputs\.([\w-]+)", ACTION.read_text(encoding="utf-8")))
    assert used == set(content["inputs"])
    assert all(item["description"] and "default" in item for item in content["inputs"].values())
    assert content["runs"]["using"] == "composite" and all(step.get("shell") == "bash" for step in steps(ACTION)[:-1])


def test_the_example_is_short_and_gives_inputs_that_the_action_has():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 12
    (step,) = [step for step in steps(EXAMPLE) if OWN.match(step["uses"])]
    assert step["with"].keys() <= read(ACTION)["inputs"].keys()


def test_the_action_sets_what_the_gate_reads():
    read_there = set(re.findall(r"\$\{?([A-Z]+)\b", (ROOT / ".ci" / "gate").read_text(encoding="utf-8")))
    (gate,) = [step for step in steps(ACTION) if step.get("name") == "The gate"]
    assert gate["env"].keys() == read_there


@by_name(SCRIPTS)
def test_a_script_can_be_run_and_has_no_mistake_of_grammar(path):
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n#")
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "environment"]).returncode == 0


@pytest.fixture
def called(tmp_path):
    """``called("bench", BASE="HEAD~1")`` runs a script; the process and the command lines that it ran come back."""
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for name in ("python", "pip", "seqbench", "pytest", "ruff", "mypy", "gh", "chromium"):
        (programs / name).write_text(STUB, encoding="utf-8")
        (programs / name).chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    plain |= {"PATH": f"{programs}:{plain['PATH']}", "PYTHON": str(programs / "python"), "CALLS": str(calls)}
    plain |= {"OUT": str(tmp_path / "out"), "CODE": "0"}

    def run(script, *words, **env):
        calls.write_text("", encoding="utf-8")
        command = [ROOT / ".ci" / script, *words]
        done = subprocess.run(command, cwd=ROOT, env={**plain, **env}, capture_output=True, text=True, timeout=60)
        return done, [shlex.split(line) for line in calls.read_text(encoding="utf-8").splitlines()]

    return run


def seqbench_words(calls):
    """What seqbench was told, in each of the calls that were of it."""
    for words in calls:
        if words[0] == "seqbench":
            yield words[1:]
        elif words[:2] == ["python", "run_bench.py"]:
            yield words[2:]


def check(words):
    """seqbench's own parser takes these words."""
    with contextlib.suppress(SystemExit):  # after --version
        assert callable(parse(words, "seqbench"))


def test_run_makes_an_environment_and_does_what_readme_says(called):
    done, calls = called("run")
    assert done.returncode == 0, done.stderr
    assert calls[0][:3] == ["python", "-m", "venv"]
    assert calls[1:3] == [shlex.split("pip install -r requirements-dev.txt -e ."), ["pytest", "-n", "2"]]
    (job,) = seqbench_words(calls)
    check(job)
    assert job[:6] == ["--task", "dna", "--model", "lstm", "--budget", "smoke"]
    assert calls[-3:] == [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]]


def test_a_python_that_is_not_there_is_said(called):
    done, calls = called("run", PYTHON="python2.99")
    assert done.returncode == 1 and "python2.99" in done.stdout and not calls


def test_wheel_tries_the_wheel_beside_the_pins(called):
    done, calls = called("wheel")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(words) for words in calls]
    assert lines[1] == "pip install --quiet -r requirements.txt"
    assert re.fullmatch(r"pip install --no-deps \S+/dist/seqbench-\S*\.whl", lines[3]) and lines[4] == "pip check"
    tried = [*seqbench_words(calls)]
    assert tried[:2] == [["--version"], ["list"]] and "smoke" in tried[2] and len(tried) == 3
    for words in tried:
        check(words)


def test_bench_is_the_gate_in_an_environment(called, tmp_path):
    done, calls = called("bench")
    assert done.returncode == 0, done.stderr
    assert calls[1] == shlex.split("pip install -r requirements-dev.txt -e .")
    (words,) = seqbench_words(calls)
    assert words == ["regress", "run", "--base", "origin/main", "--out", str(tmp_path / "out")]
    check(words)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_gate_ends_as_seqbench_does_and_its_summary_is_shown(called, tmp_path, code):
    shown = tmp_path / "summary.md"
    done, _ = called("bench", CODE=str(code), SUMMARY="| slower |", GITHUB_STEP_SUMMARY=str(shown))
    assert done.returncode == code and (code == 2 or shown.read_text() == "| slower |\n")
    done, _ = called("gate", BASE="HEAD", CODE=str(code), GITHUB_STEP_SUMMARY=str(shown), OUT=str(tmp_path / "other"))
    assert done.returncode == code
    assert f"exit code {code}" in shown.read_text().splitlines()[1]


def test_what_an_earlier_run_left_is_not_shown_again(called, tmp_path):
    shown = tmp_path / "summary.md"
    called("gate", BASE="HEAD", SUMMARY="| slower |", GITHUB_STEP_SUMMARY=str(shown))
    done, _ = called("gate", BASE="HEAD", CODE="2", GITHUB_STEP_SUMMARY=str(shown))  # as the folder is not empty
    assert done.returncode == 2 and "exit code 2" in shown.read_text().splitlines()[1]


def test_the_gate_passes_on_what_the_action_is_given(called):
    own = {"MODEL": "gru", "PLUGIN": str(ROOT / "tests" / "own layer.py"), "BENCHMARKS": "folder of mine"}
    done, calls = called("gate", BASE="HEAD~3", **own)
    assert done.returncode == 0, done.stderr
    (words,) = seqbench_words(calls)
    assert words[6:] == ["--model", own["MODEL"], "--plugin", own["PLUGIN"], "--benchmarks", own["BENCHMARKS"]]
    check(words)


def test_a_base_that_is_gone_is_replaced_by_the_commit_before(called):
    done, calls = called("gate", BASE="0" * 40)
    (words,) = seqbench_words(calls)
    assert "HEAD~1" in done.stderr and words[3] == "HEAD~1"


def test_trend_fetches_what_is_new_and_draws_all(called, tmp_path):
    folder = tmp_path / "trend"
    (folder / "11").mkdir(parents=True)
    done, calls = called("trend", str(folder), "3")
    assert done.returncode == 0 and "Run 12" in done.stderr, done.stderr
    assert [words[3] for words in calls if words[:3] == ["gh", "run", "download"]] == ["12", "13"]
    assert sorted(path.name for path in folder.iterdir()) == ["11", "13"]
    (words,) = seqbench_words(calls)
    assert words == ["regress", "trend", str(folder), "--plot", str(folder / "plots")]
    check(words)


SHOWN = [
    (path.name, command)
    for path in [*FILES, *SCRIPTS]
    for command in re.findall(r"# .*\bseqbench (regress [^\n.`]*)", path.read_text(encoding="utf-8"))
]


def test_comments_show_how_a_trend_is_drawn():
    assert SHOWN


@pytest.mark.parametrize(("name", "command"), SHOWN, ids=[f"{name} {command}" for name, command in SHOWN])
def test_a_command_in_a_comment_parses(name, command):
    check(shlex.split(command))
