#!/bin/sh
# find-python.sh [X.Y]: print an interpreter that works: of version X.Y, or the first of 3.11 or newer.
#
# Looks on PATH, then in the folder of pyenv. A name on PATH proves nothing (pyenv keeps shims of versions that are
# not switched on), so every candidate is asked.

version=$1
pyenv=$(pyenv root 2>/dev/null) || pyenv=

fits() {
    "$1" -c '
import sys, venv, ensurepip
own = "%d.%d" % sys.version_info[:2]
sys.exit(sys.version_info < (3, 11) or sys.argv[1] not in ("", own))
' "$version" 2>/dev/null
}

for python in python3 ${version:-3.13 3.12 3.11} "${pyenv:-/nowhere}"/versions/3.*/bin/python; do
    case $python in 3.*) python=python$python ;; esac
    if fits "$python"; then
        echo "$python"
        exit
    fi
done

echo "No Python ${version:-3.11 or newer} with the venv module was found (on Debian: apt-get install python3-venv)." >&2
exit 1
