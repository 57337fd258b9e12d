"""What is taken for a mail address, where events come in and where mail is sent: one, and nothing beside it.

No display name, no second address, no line break, so that none of it can become a header or another recipient. A
domain with other letters than ASCII's comes in its encoded form (xn--…).
"""

MAIL_ADDRESS = r'^[^@\s<>,;:"()\[\]\\]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,188}[A-Za-z0-9])?$'
LONGEST = 255  # characters
