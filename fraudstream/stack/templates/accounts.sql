CREATE DATABASE IF NOT EXISTS `$database` CHARACTER SET utf8mb4;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$admin_password';
CREATE USER IF NOT EXISTS '$admin'@'127.0.0.1' IDENTIFIED BY '$admin_password';
GRANT ALL PRIVILEGES ON *.* TO '$admin'@'127.0.0.1' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS '$user'@'127.0.0.1' IDENTIFIED BY '$password';
GRANT ALL PRIVILEGES ON `$database`.* TO '$user'@'127.0.0.1';
GRANT ALL PRIVILEGES ON `$database\_%`.* TO '$user'@'127.0.0.1';
GRANT ALL PRIVILEGES ON `fraudstream\_%`.* TO '$user'@'127.0.0.1';
