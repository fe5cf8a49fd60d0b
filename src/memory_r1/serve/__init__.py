"""A memory behind HTTP: Mem0's paths, a chat endpoint with memory, keys. `memory-r1 serve`; the `[serve]` extra."""
