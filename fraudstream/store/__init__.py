"""MySQL: the tables, their migrations, the batch commit, the outbox's rows, the dashboard's reads."""
