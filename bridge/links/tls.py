"""How the other side's certificate is checked, for WebSockets, HTTP and MQTT alike."""

import ssl

from bridge.options import PlatformTls, Tls


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Raises OSError for a file that cannot be read. A fingerprint is compared by whoever opens the connection."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls.insecure or (isinstance(tls, PlatformTls) and tls.fingerprint):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
