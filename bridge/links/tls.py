"""How the other side's certificate is checked, for WebSockets, HTTP and MQTT alike."""

import hashlib
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


def pinned(certificate: bytes) -> ssl.SSLContext:
    """Trusts this one certificate (DER), whatever names it bears and whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context


def compare(certificate: bytes, fingerprint: str) -> None:
    """Raises ConnectionError where this certificate (DER) is not the one: SHA-256 in hex, colons and case are free."""
    seen = hashlib.sha256(certificate).hexdigest()
    if seen != fingerprint.replace(":", "").lower():
        raise ConnectionError(f"the server's certificate has another fingerprint: {seen}")
