"""Every error memory-r1 raises on purpose; each message says what is wrong and what to do about it.

MemoryR1Error
├── InvalidInput (ValueError)        an argument that cannot be meant
│   ├── MissingScope                 no user_id, agent_id or run_id
│   ├── BadFilter                    a filter outside the grammar
│   └── Suspicious                   a text that reads like instructions for a model, where such are kept apart
├── EntryNotFound (LookupError)      no such entry or operation in this scope
├── DataUnavailable                  a data set that cannot be downloaded, or is another file than it should be
├── Conflict                         the entry changed after it was read
├── AlreadyDecided                   another process decided about this fact of the same turn
├── BankError                        the file itself
│   ├── BankCorrupt                  not a memory bank, or damaged
│   ├── BankTooNew                   written by a later version
│   ├── BankBusy                     another process holds it too long
│   ├── BankFull                     the disk is full or read-only
│   └── EmbedderMismatch             its vectors come from another embedder
├── TrainingError                    a training run that cannot go on
│   ├── Diverged                     its loss is no number
│   └── CheckpointFailed             it could not be written
└── ModelError                       a language model or an embedder
    ├── ModelUnavailable             not reachable, timed out, refused
    │   └── ModelRefused             this request, and it would be again
    ├── WeightsMissing               a model file is absent or has the wrong checksum
    └── AdapterMismatch              a LoRA adapter made for another base model
"""


class MemoryR1Error(Exception):
    """Base of all deliberate errors."""


class InvalidInput(MemoryR1Error, ValueError):
    """An argument that cannot be meant: empty text, a wrong type, a time that is no time."""


class MissingScope(InvalidInput):
    """None of user_id, agent_id and run_id was given."""


class BadFilter(InvalidInput):
    """A filter that the grammar does not know, or that names a scope where none may stand."""


class Suspicious(InvalidInput):
    """A text that reads like instructions for a model may not replace an entry's."""


class EntryNotFound(MemoryR1Error, LookupError):
    """No such entry (or operation) where the caller may look."""


class DataUnavailable(MemoryR1Error):
    """A data set's file could not be downloaded, or is not the file it should be."""


class Conflict(MemoryR1Error):
    """The entry was changed or removed after it was read, so nothing was written."""


class AlreadyDecided(MemoryR1Error):
    """Another process that remembers the same turn decided about this fact first, so nothing was written."""


class BankError(MemoryR1Error):
    """The bank's file cannot be used as it is."""


class BankCorrupt(BankError):
    """The file is damaged, or is not a memory bank."""


class BankTooNew(BankError):
    """The file was written by a later version of memory-r1."""


class BankBusy(BankError):
    """Another process held the file for longer than the busy timeout."""


class BankFull(BankError):
    """The disk is full, or the file may not be written."""


class EmbedderMismatch(BankError):
    """The file's vectors come from another embedder than the one it was opened with."""


class TrainingError(MemoryR1Error):
    """A training run cannot go on; its last whole checkpoint is intact."""


class Diverged(TrainingError):
    """The loss is not a finite number."""


class CheckpointFailed(TrainingError):
    """A checkpoint could not be written, as on a full disk."""


class ModelError(MemoryR1Error):
    """A language model or an embedder could not do its part."""


class ModelUnavailable(ModelError):
    """The model could not be reached, timed out, or refused the request."""


class ModelRefused(ModelUnavailable):
    """The model refused this request, as for its content: the same request would be refused again."""


class WeightsMissing(ModelError):
    """A model file is absent, incomplete or has the wrong checksum."""


class AdapterMismatch(ModelError):
    """A LoRA adapter was made for another base model."""
