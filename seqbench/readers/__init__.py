"""What comes from outside: users' archives, tables and sequences, and downloads. Nothing that is read is trusted."""
