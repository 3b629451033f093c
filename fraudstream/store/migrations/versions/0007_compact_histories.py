"""From here on user_history may hold histories in their compact form, which older versions cannot read: its
number keeps these from starting, where they would otherwise end at the first such history.

Revision: 0007, after 0006
"""

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No table changes; histories take the form when they are next written."""
