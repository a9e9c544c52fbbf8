"""Root runs the services as nobody, who may not enter every folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from platform_site.embedded.account import Account, choose_home, reachable_program, service_account

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="truetune-account-"))
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root is not a normal user")
def test_normal_user_runs_services_as_themselves(folder: Path):
    assert service_account() == Account()
    assert choose_home(folder, Account()) == folder / "embedded"


@needs_root
def test_root_runs_services_as_nobody():
    assert service_account().uid not in (None, 0)


@needs_root
def test_home_is_below_var_dir_where_nobody_can_enter(folder: Path):
    folder.chmod(0o711)
    assert choose_home(folder, service_account()) == folder / "embedded"


@needs_root
def test_home_moves_where_nobody_cannot_enter(folder: Path, monkeypatch: pytest.MonkeyPatch):
    shared = Path(tempfile.mkdtemp(prefix="truetune-shared-"))
    shared.chmod(0o755)
    monkeypatch.setattr("platform_site.embedded.account.SHARED_HOME", shared)
    folder.chmod(0o700)
    home = choose_home(folder, service_account())
    assert home.parent == shared
    assert service_account().can_enter(home)
    shutil.rmtree(shared)


@needs_root
def test_programs_that_nobody_cannot_enter_are_copied_with_their_neighbours(folder: Path):
    hidden = folder / "hidden"
    (hidden / "tool/bin").mkdir(parents=True)
    (hidden / "tool.libs").mkdir()
    shutil.copy(shutil.which("true"), hidden / "tool/bin/true")
    (hidden / "tool.libs/library").write_text("x")
    hidden.chmod(0o700)
    folder.chmod(0o711)
    home = folder / "home"
    home.mkdir()
    folders = [hidden / "tool", hidden / "tool.libs"]
    copy = reachable_program(hidden / "tool/bin/true", folders=folders, home=home, account=service_account())
    assert copy.is_relative_to(home)
    assert (copy.parents[2] / "tool.libs/library").read_text() == "x"
    assert service_account().can_enter(copy)
    assert reachable_program(hidden / "tool/bin/true", folders=folders, home=home, account=service_account()) == copy
