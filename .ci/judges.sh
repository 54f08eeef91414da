#!/bin/sh
# Installs the independent programs where that is possible, then runs the tests that ask them.
# A program that cannot be had is named, and its tests skip with that reason.
set -u
python=${1:?usage: judges.sh PYTHON}
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  missing=""
  for package in swaks curl openssl msmtp strace; do
    command -v "$package" >/dev/null 2>&1 || missing="$missing $package"
  done
  command -v unbound >/dev/null 2>&1 || missing="$missing unbound"
  command -v knotd >/dev/null 2>&1 || missing="$missing knot"
  command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
  perl -MNet::SSLeay -e1 2>/dev/null || missing="$missing libnet-ssleay-perl"  # swaks speaks TLS through it
  if [ -n "$missing" ]; then
    echo "installing:$missing"
    apt-get update -qq >/dev/null 2>&1 || echo "the package lists could not be read; what is missing is skipped"
    for package in $missing; do
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
        echo "$package could not be installed; its tests are skipped"
    done
  fi
  # Postfix, Exim, rspamd, nmap and others are unpacked by the tests that ask them, and need the lists only.
  apt-cache show sslscan >/dev/null 2>&1 || apt-get update -qq >/dev/null 2>&1
else
  echo "not root: only programs that are already here are asked"
fi
# Programs from PyPI and npm get a place of their own, so that they never mix with what the product runs on.
tools=tests/judges/tools
if [ ! -x .judges/python/bin/python ] || ! cmp -s "$tools/python.txt" .judges/python/installed.txt; then
  echo "installing programs from PyPI into .judges/python"
  "$python" -m venv --clear .judges/python &&
    .judges/python/bin/python -m pip install --quiet --disable-pip-version-check -r "$tools/python.txt" 2>/dev/null &&
    cp "$tools/python.txt" .judges/python/installed.txt ||
    echo "the programs from PyPI could not be installed; their tests are skipped"
fi
if [ ! -d .judges/fuzz/atheris ]; then
  echo "installing atheris into .judges/fuzz"
  "$python" -m pip install --quiet --disable-pip-version-check --target .judges/fuzz "atheris>=3" 2>/dev/null ||
    echo "atheris could not be installed; guided fuzzing is skipped"
fi
if ! command -v npm >/dev/null 2>&1; then
  echo "npm is not installed; the tests of clients from npm are skipped"
elif ! cmp -s "$tools/package-lock.json" .judges/node/installed.json; then
  echo "installing clients from npm into .judges/node"
  mkdir -p .judges/node && cp "$tools/package.json" "$tools/package-lock.json" .judges/node/ &&
    (cd .judges/node && npm ci --silent --no-audit --no-fund >/dev/null 2>&1) &&
    cp "$tools/package-lock.json" .judges/node/installed.json ||
    echo "the clients from npm could not be installed; their tests are skipped"
fi
exec "$python" -m pytest -m "judge or stack" -rs
