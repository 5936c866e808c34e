"""A report is written whole or not at all."""

import os
from pathlib import Path

import pytest

from escapade.errors import StudyError
from escapade.report import figures, write_report


@pytest.fixture
def one_figure(monkeypatch):
    """Draw only what the page of an empty study shows, to be quick."""
    monkeypatch.setattr(figures, "__all__", ["spectrum"])


def test_page_and_figures_are_written(diffusive, tmp_path):
    page = write_report(diffusive, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert page.read_text().startswith("<!doctype html>")
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert names == {f"{name}.{form}" for name in figures.__all__ for form in ("png", "svg")}
    for name in figures.__all__:
        png = (page.parent / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        svg = (page.parent / "figures" / f"{name}.svg").read_text()
        assert "<svg" in svg
        assert "<dc:date>" not in svg
    assert sorted(path.name for path in page.parent.iterdir()) == ["figures", "report.html"]


@pytest.mark.usefixtures("one_figure")
def test_a_failing_write_leaves_the_old_report(empty, tmp_path, monkeypatch):
    page = write_report(empty, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_bytes = Path.write_bytes

    def full(path, content):
        if "report.html" in path.name:
            write_bytes(path, content[:100])
            raise OSError(28, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StudyError, match="No space left on device"):
        write_report(empty, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert page.read_text().endswith("</html>")


@pytest.mark.usefixtures("one_figure")
def test_an_interrupted_write_leaves_no_debris(empty, tmp_path, monkeypatch):
    def interrupt(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(empty, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("one_figure")
def test_a_folder_that_is_a_file_is_named(empty, tmp_path):
    (tmp_path / "taken").write_text("something else")
    with pytest.raises(StudyError, match=r"taken.*choose another folder"):
        write_report(empty, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "something else"


@pytest.mark.usefixtures("one_figure")
@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_read_only_folder_is_named(empty, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StudyError, match=r"locked.*permission to write"):
        write_report(empty, folder)


@pytest.mark.usefixtures("one_figure")
def test_refused_permission_is_named(empty, tmp_path, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StudyError, match=f"{tmp_path}: Permission denied"):
        write_report(empty, tmp_path)
