"""Schema changes, in SQL, one script a version. Alembic keeps the order and the version table.

There is no way down: a release that must be rolled back runs on the newer schema, because a change is first an
expansion that the older code does not notice, and the contraction comes a release later, in a script of its own whose
name says `contract` and which raises the `comment on schema`: older code refuses to run then.
"""

from pathlib import Path

from alembic import op

_VERSIONS = Path(__file__).parent / "versions"


def run_script(name: str) -> None:
    """Run one SQL script of this folder inside the migration's transaction."""
    # Straight to the driver: SQLAlchemy would take `:name` and `%` in the script for parameters.
    op.get_bind().exec_driver_sql((_VERSIONS / name).read_text().replace("%", "%%"))
