"""The README's Python is run: a user copies it and it works."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks():
    if not README.is_file():
        return []
    return re.findall(
        r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.skipif(not README.is_file(), reason="there is no README.md")
def test_the_readme_has_an_example():
    assert blocks()


@pytest.mark.parametrize("number", range(len(blocks())))
def test_examples_of_the_readme_run(number, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    source = blocks()[number]
    exec(compile(source, f"README.md, example {number + 1}", "exec"), {"__name__": "__main__"})
    if "print(" in source:
        assert capsys.readouterr().out.strip()
    # An example leaves nothing behind.
    assert list(tmp_path.iterdir()) == []
