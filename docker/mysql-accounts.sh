#!/bin/bash
# Runs once, when MySQL's volume is empty: the two accounts of the applications, with the rights they need.
# A password that is changed in .env later has to be changed in the server, too (ALTER USER).
set -eu

text() { # a string as an SQL literal
  local value="${1//\\/\\\\}"
  printf "'%s'" "${value//\'/\\\'}"
}

pipeline="$(text "$PIPELINE_USER")@'%'"
dashboard="$(text "$DASHBOARD_USER")@'%'"

# `_` is a wildcard in the database's name of a GRANT, hence the backslash.
MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --protocol=socket --user=root <<SQL
CREATE USER $pipeline IDENTIFIED BY $(text "$PIPELINE_PASSWORD");
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX
  ON \`${MYSQL_DATABASE//_/\\_}\`.* TO $pipeline;

CREATE USER $dashboard IDENTIFIED BY $(text "$DASHBOARD_PASSWORD");
GRANT SELECT ON \`${MYSQL_DATABASE//_/\\_}\`.* TO $dashboard;
-- The table does not exist yet, and only with CREATE among them are rights on it taken.
GRANT CREATE, INSERT, UPDATE, DELETE ON \`$MYSQL_DATABASE\`.labels TO $dashboard;
REVOKE CREATE ON \`$MYSQL_DATABASE\`.labels FROM $dashboard;
SQL
