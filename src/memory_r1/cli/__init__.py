"""The command line: thin commands that parse, call the library and print."""

from memory_r1.cli.main import main as main
