"""The features of each stored transaction, and a number that orders the changes of labels.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _missing(table: str, column: str) -> bool:
    """Whether a run that died half-way has not come to this column yet."""
    return column not in {each["name"] for each in sa.inspect(op.get_bind()).get_columns(table)}


def upgrade() -> None:
    if _missing("clean_data", "features"):
        op.add_column("clean_data", sa.Column("features", sa.VARBINARY(1024), nullable=True))
    if _missing("labels", "change_id"):
        op.add_column("labels", sa.Column("change_id", sa.BigInteger, nullable=False, server_default="0"))
    indexes = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("labels")}
    if "labels_by_change" not in indexes:
        op.create_index("labels_by_change", "labels", ["change_id"])
