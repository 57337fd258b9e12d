"""News for people, by mail, webhook or chat: the installation chooses the way, in the block `notifier/default`."""

from darkroom.blocks.notifier.block import Notifier
from darkroom.blocks.notifier.message import Message

__all__ = ["Message", "Notifier"]
