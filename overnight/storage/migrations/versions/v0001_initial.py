"""batches, submissions, entries, results, outputs, stray_results"""

from overnight.storage.migrations import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script("0001_initial.sql")
