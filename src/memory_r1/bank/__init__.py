"""The memory bank: what is so now, and every operation ever."""

from memory_r1.bank.sqlite import MemoryBank as MemoryBank
from memory_r1.bank.sqlite import NewEntry as NewEntry
