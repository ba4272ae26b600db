"""iSymphony, a call centre panel for Asterisk: its event socket tells who logs in and who is on the phone.

Its Live REST API, on the same server, is read and, as far as the configuration names calls, acts.
"""

from bridge.backends.isymphony.data import SUBJECTS
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.backends.isymphony.session import COMMANDS, EVENTS, IsymphonySession, own_commands
from bridge.backends.session import Platform

PLATFORM = Platform(
    word="isymphony",
    options=IsymphonyOptions,
    session=IsymphonySession,
    events=EVENTS,
    commands=COMMANDS,
    own_commands=own_commands,
    subjects=SUBJECTS,
)
