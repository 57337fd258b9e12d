"""The local stack: every part of Darkroom as a process of this machine, for work, demo and tests. See `supervisor`."""
