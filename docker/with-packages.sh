#!/bin/sh
# Runs a command with the builder's own way to the package indexes: settings (proxy, index, and so
# on) and a CA bundle come as build secrets, so that neither stays in a layer or in the history.
set -eu
if [ -f /run/secrets/packages ]; then
    set -a
    . /run/secrets/packages
    set +a
fi
if [ -f /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi
# a build has nobody to answer, and tzdata asks
export DEBIAN_FRONTEND=noninteractive
exec "$@"
