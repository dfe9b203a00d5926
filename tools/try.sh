#!/bin/sh
# Sets everything up on a fresh Debian or Raspberry Pi OS, then runs one thing:
#
#   sh tools/try.sh demo     the demo, in an environment of its own (.venv)
#   sh tools/try.sh test     the tests
#   sh tools/try.sh setup    only the set-up for the tests, with lint, types and docs tools
#
# What is already there is left alone, so a second run is quick. PYTHON names another interpreter, VENV another folder.
set -eu
cd "$(dirname "$0")/.."

what=${1:-}
python=${PYTHON:-python3}
venv=${VENV:-.venv}
shift || true

install_system_packages() {
    missing=""
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    # OpenCV's wheel links these two; a minimal system has neither.
    /sbin/ldconfig -p | grep -q 'libGL\.so\.1' || missing="$missing libgl1"
    /sbin/ldconfig -p | grep -q 'libgthread-2\.0\.so\.0' || missing="$missing libglib2.0-0"
    [ -n "$missing" ] || return 0
    echo "installing:$missing"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo apt-get update -qq
    # The list is words on purpose.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing
}

# Installs the checkout with these extras, unless the same was done before for the same pyproject.toml.
install_here() {
    install_system_packages
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    wanted="$1 $(cksum < pyproject.toml)"
    if [ "$(cat "$venv/installed-$1" 2>/dev/null || true)" != "$wanted" ]; then
        "$venv/bin/python" -m pip install --disable-pip-version-check --quiet -e ".[$1]"
        echo "$wanted" > "$venv/installed-$1"
    fi
}

case "$what" in
demo)
    install_here onnxruntime,demo
    exec "$venv/bin/edge-sdk" demo "$@"
    ;;
test)
    install_here test
    exec "$venv/bin/python" -m pytest "$@"
    ;;
setup)
    install_here test
    install_here lint,docs
    ;;
*)
    echo "usage: sh tools/try.sh demo | test | setup" >&2
    exit 2
    ;;
esac
