"""Under whose name, and in which folder, the embedded services run.

A normal user runs them as themselves under VAR_DIR. PostgreSQL refuses root, so root runs them as ``nobody``; where
``nobody`` may not enter VAR_DIR or the Python environment (a clone below ``/root``, say), data and programs go to
``/var/lib/truetune``.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platform_site.embedded.state import EmbeddedError

SHARED_HOME = Path("/var/lib/truetune")


@dataclass(frozen=True)
class Account:
    """The user that services run as; None means ourselves."""

    uid: int | None = None
    gid: int | None = None

    def can_enter(self, path: Path) -> bool:
        """Say whether this account may read and enter ``path`` and every folder above it."""
        if self.uid is None:
            return os.access(path, os.R_OK | os.X_OK)
        probe = ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)]
        return subprocess.run(probe, check=False, user=self.uid, group=self.gid, extra_groups=[], cwd="/").returncode == 0

    def make_folder(self, path: Path) -> Path:
        """Make ``path`` as a private folder of this account."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.own(path)
        return path

    def own(self, path: Path) -> None:
        """Give one file or folder to this account."""
        if self.uid is not None:
            os.chown(path, self.uid, self.gid or -1)


def service_account() -> Account:
    """Return the account for services: ourselves, or ``nobody`` if we are root.

    Raises: EmbeddedError: we are root and the system has no user ``nobody``.
    """
    if os.geteuid() != 0:
        return Account()
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and this system has no user 'nobody' to run it as. Start as a normal user, "
            "or set DATABASE_URL and REDIS_URL."
        ) from None
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)


def choose_home(var_dir: Path, account: Account) -> Path:
    """Return a folder for the services' data that ``account`` can enter: below ``var_dir`` if it can."""
    own_home = var_dir / "embedded"
    own_home.mkdir(parents=True, exist_ok=True)
    if account.can_enter(own_home):
        return own_home
    home = SHARED_HOME / secrets.token_hex(6)
    home.mkdir(parents=True, mode=0o755)
    return home


def reachable_program(program: Path, *, folders: Sequence[Path], home: Path, account: Account) -> Path:
    """Return ``program``, or its copy below ``home`` where ``account`` cannot enter the original.

    ``folders`` are copied side by side, so that the program still finds its libraries.
    """
    if account.can_enter(program):
        return program
    parent = folders[0].parent
    copies = home / f"programs-{int(program.stat().st_mtime)}"
    copy = copies / program.relative_to(parent)
    if not copy.exists():
        draft = home / f"programs-draft.{os.getpid()}"
        for folder in folders:
            shutil.copytree(folder, draft / folder.relative_to(parent))
        draft.chmod(0o755)
        shutil.copytree(draft, copies, dirs_exist_ok=True)
        shutil.rmtree(draft)
    return copy
