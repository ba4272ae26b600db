"""The registry of platforms: a word, its options, its session. A new platform is one folder and one line here."""

from bridge.backends.iotpro import PLATFORM as IOTPRO
from bridge.backends.isymphony import PLATFORM as ISYMPHONY
from bridge.backends.resiot import PLATFORM as RESIOT
from bridge.backends.session import Platform
from bridge.backends.smartserver import PLATFORM as SMARTSERVER

PLATFORMS: dict[str, Platform] = {platform.word: platform for platform in (RESIOT, IOTPRO, SMARTSERVER, ISYMPHONY)}
