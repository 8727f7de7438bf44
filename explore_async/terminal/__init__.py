"""What every part of the program needs to write to a terminal."""
