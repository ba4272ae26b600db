"""What stands in for the base image: Debian's own Python of the same release, laid out as the base image has it.

The name in FROM says all: `python:3.13-slim-trixie` is Python 3.13 of Debian trixie. It differs from the real one by
who compiled Python. Like there: Python below /usr/local, pip in its site-packages, no bytecode, no compiler.
"""

import re
from pathlib import Path

from tests.image.engine import Engine, ended

_PACKAGES = "python3,python3-pip-whl,ca-certificates,netbase,tzdata"
_BUILD_S = 600.0

# In the new root. Debian's Python installs packages elsewhere: sysconfig says where to, and site (which is frozen
# into the interpreter) where from.
_LAYOUT = """
set -eu
cd "$1"
mv usr/bin/python{v} usr/local/bin/
rm usr/bin/python3
ln -s python{v} usr/local/bin/python3
ln -s python3 usr/local/bin/python
rm -r usr/local/lib/python{v}
mv usr/lib/python{v} usr/local/lib/
cd usr/local/lib/python{v}
rm EXTERNALLY-MANAGED
sed -i "s/prefix_scheme = 'posix_local'/prefix_scheme = 'posix_prefix'/" sysconfig/__init__.py
mkdir -p site-packages ensurepip/_bundled
ln -s site-packages dist-packages
mv "$1"/usr/share/python-wheels/pip-*.whl ensurepip/_bundled/
pip=$(echo ensurepip/_bundled/pip-*.whl)
chroot "$1" env -i PATH=/usr/local/bin:/usr/bin PYTHONPATH=/usr/local/lib/python{v}/$pip python3 -m pip install -q \
    --root-user-action=ignore --no-compile --no-index /usr/local/lib/python{v}/$pip
find . -name __pycache__ -prune -exec rm -r {{}} +
"""


def name_in(dockerfile: str) -> tuple[str, str, str]:
    """The image of its FROM lines, Python's version and Debian's release. Raises ValueError."""
    names = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    found = re.fullmatch(r"python:(3\.\d+)-slim-([a-z]+)", names.pop()) if len(names) == 1 else None
    if found is None:
        raise ValueError("every FROM must name the same python:VERSION-slim-RELEASE")
    return found[0], found[1], found[2]


async def make(engine: Engine, dockerfile: Path) -> None:
    """Builds it and imports it under the name in FROM."""
    name, version, release = name_in(dockerfile.read_text())
    archive, layout = engine.folder / "base.tar", engine.folder / "layout.sh"
    layout.write_text(_LAYOUT.format(v=version))
    await ended(
        "mmdebstrap", "--quiet", "--variant=essential", f"--include={_PACKAGES}",
        "--aptopt=APT::Install-Recommends false", f'--customize-hook=sh {layout} "$1"', release, archive,
        timeout=_BUILD_S, environment={"TMPDIR": str(engine.folder)},
    )  # fmt: skip
    path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    await engine.podman("import", "--quiet", "--change", path, archive, f"docker.io/library/{name}")
    archive.unlink()
