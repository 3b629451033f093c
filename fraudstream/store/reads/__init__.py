"""What the dashboard reads, a module for each page; all of it from one consistent picture of the database."""
