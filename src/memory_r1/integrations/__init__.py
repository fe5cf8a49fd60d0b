"""A memory behind the interfaces of agent frameworks; each module imports its framework, and nothing else does."""
