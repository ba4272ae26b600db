"""The samples of every platform; a new one adds its file here."""

from tests.backends.sample import Samples
from tests.backends.samples_iotpro import IOTPRO
from tests.backends.samples_isymphony import ISYMPHONY
from tests.backends.samples_resiot import RESIOT
from tests.backends.samples_smartserver import SMARTSERVER

SAMPLES: dict[str, Samples] = {
    "resiot": RESIOT,
    "iotpro": IOTPRO,
    "smartserver": SMARTSERVER,
    "isymphony": ISYMPHONY,
}
