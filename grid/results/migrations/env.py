"""Alembic's entry point; the caller hands in the connection, whose transaction it stays in."""

from alembic import context

from grid.results.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
