"""SmartServer IoT (EnOcean, Dialog, Adesto, Echelon): building automation, told by the IAP/WS socket of its CMS."""

from bridge.backends.session import Platform
from bridge.backends.smartserver.command import COMMANDS
from bridge.backends.smartserver.data import SUBJECTS
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.backends.smartserver.session import EVENTS, SmartserverSession

PLATFORM = Platform(
    word="smartserver",
    options=SmartserverOptions,
    session=SmartserverSession,
    events=EVENTS,
    commands=COMMANDS,
    subjects=SUBJECTS,
)
