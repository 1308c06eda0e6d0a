#!/bin/sh
# Installs the C and C++ client: bindings-c/install.sh [PREFIX]. The prefix is /usr/local unless said otherwise; with DESTDIR, all
# goes below that. With LEVADA_LIB_DIR, the libraries are taken from there; without, they are built in release mode.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=${DESTDIR:-}${1:-/usr/local}
abi=$(sed -n 's/^#define LEVADA_ABI_VERSION \([0-9]*\)$/\1/p' "$here/include/levada.h")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../Cargo.toml" | head -n 1)

from=${LEVADA_LIB_DIR:-}
if [ -z "$from" ]; then
  # A panic must become an error at the boundary, so the profile is the one that unwinds.
  (cd "$here/.." && cargo build --profile ci --locked -p levada-c)
  from=$(cd "$here/.." && cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/ci
fi

filled() {
  sed -e "s/@VERSION@/$version/g" -e "s/@ABI@/$abi/g" "$here/$1"
}

mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/levada"
cp "$here/include/levada.h" "$here/include/levada.hpp" "$prefix/include/"
cp "$from/liblevada.a" "$prefix/lib/liblevada.a"
cp "$from/liblevada.so" "$prefix/lib/liblevada.so.$abi"
ln -sf "liblevada.so.$abi" "$prefix/lib/liblevada.so"
filled levada.pc.in > "$prefix/lib/pkgconfig/levada.pc"
filled cmake/levadaConfig.cmake.in > "$prefix/lib/cmake/levada/levadaConfig.cmake"
filled cmake/levadaConfigVersion.cmake.in > "$prefix/lib/cmake/levada/levadaConfigVersion.cmake"
