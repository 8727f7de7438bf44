"""Rows of files: reading them, judging them, writing them again. Each command on files is composed here."""
