"""Alembic's entry: runs the scripts on the connection that `overnight.storage.database` hands over."""

from alembic import context

from overnight.storage.database import VERSION_TABLE
from overnight.storage.tables import SCHEMA, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    include_schemas=True,
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
