from memory_r1.cli import main

main()
