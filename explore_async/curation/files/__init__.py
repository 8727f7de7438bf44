"""Files of rows in every supported format."""
