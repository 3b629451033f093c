CREATE DATABASE IF NOT EXISTS `$database` CHARACTER SET utf8mb4;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$admin_password';
CREATE USER IF NOT EXISTS '$admin'@'127.0.0.1' IDENTIFIED BY '$admin_password';
GRANT ALL PRIVILEGES ON *.* TO '$admin'@'127.0.0.1' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS '$user'@'127.0.0.1' IDENTIFIED BY '$password';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM '$user'@'127.0.0.1';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON `$database`.* TO '$user'@'127.0.0.1';
CREATE USER IF NOT EXISTS '$dashboard_user'@'127.0.0.1' IDENTIFIED BY '$dashboard_password';
REVOKE ALL PRIVILEGES, GRANT OPTION FROM '$dashboard_user'@'127.0.0.1';
GRANT SELECT ON `$database`.* TO '$dashboard_user'@'127.0.0.1';
-- The table may not exist yet, and only with CREATE among them are rights on it taken.
GRANT CREATE, INSERT, UPDATE, DELETE ON `$database`.labels TO '$dashboard_user'@'127.0.0.1';
REVOKE CREATE ON `$database`.labels FROM '$dashboard_user'@'127.0.0.1';
-- Databases for trials and tests.
GRANT ALL PRIVILEGES ON `fraudstream\_%`.* TO '$user'@'127.0.0.1';
GRANT ALL PRIVILEGES ON `fraudstream\_%`.* TO '$dashboard_user'@'127.0.0.1';
