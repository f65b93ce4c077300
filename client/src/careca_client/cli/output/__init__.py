"""What people and programs are shown: tables, progress, and the files that results go to."""
