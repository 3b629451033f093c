"""Alembic's entry: runs the migrations on the connection that fraudstream.store.migrate passes in."""

from alembic import context

from fraudstream.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
