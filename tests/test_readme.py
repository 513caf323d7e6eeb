"""What the README promises: its examples run, its commands name what exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_python_example_of_the_readme_runs(example, capsys):
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_learning_example_has_at_most_ten_lines():
    lines = [line for line in EXAMPLES[0].splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.parametrize("path", sorted(set(re.findall(r"[\w/]+\.(?:py|txt|png)", README))))
def test_every_file_that_the_readme_names_exists(path):
    names = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob(Path(path).name)]
    made_by_commands = {"moons.png", "gaps.png"}
    assert names or path in made_by_commands


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_is_listed_in_the_readme(script):
    assert f"benchmarks/{script.name}" in README
