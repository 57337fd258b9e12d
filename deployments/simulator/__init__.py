"""A fal.ai of one's own: the queue, the files and the signed webhooks, on one port of this machine.

Clients are not patched. They use fal's production URLs through `HTTPS_PROXY`; the simulator ends their TLS with
certificates of its own authority (`environment.client_environment` gives a process what it needs to trust them).
Beside fal's own behaviour it misbehaves on demand: see `faults.py` and the operators' side under `/_sim/`.

Known differences from the real one: webhooks may go to loopback addresses (fal drops those), models read files from
fal's CDN only (not from elsewhere), and nobody pays what is charged. A restart goes on with requests, files and what
accounts have set; it forgets uploads that were begun, and all that operators have set.
"""
