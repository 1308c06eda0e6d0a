#!/bin/sh
# Builds an adapter (c or cpp) against the library of this tree, into conformance/adapters/LANGUAGE/build. What CFLAGS or
# CXXFLAGS say is added.
set -eu
cd "$(dirname "$0")/../.."
language=$1
cargo build --quiet --profile ci --locked -p levada-c
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
shared=conformance/adapters/c
out=conformance/adapters/$language/build
strict="-O2 -g -Wall -Wextra -Werror -D_GNU_SOURCE -Ibindings-c/include -I$shared"
mkdir -p "$out"
for source in convert json sha256; do
  ${CC:-cc} -std=c11 $strict ${CFLAGS:-} -c "$shared/$source.c" -o "$out/$source.o"
done
objects="$out/convert.o $out/json.o $out/sha256.o"
case $language in
  c)
    # The shared library, found beside the adapter by its SONAME.
    cp "$target/ci/liblevada.so" "$out/liblevada.so.1"
    ${CC:-cc} -std=c11 $strict ${CFLAGS:-} -o "$out/adapter" "$shared/adapter.c" $objects "$out/liblevada.so.1" '-Wl,-rpath,$ORIGIN'
    ;;
  cpp)
    # The static library.
    ${CXX:-c++} -std=c++17 $strict ${CXXFLAGS:-} -o "$out/adapter" conformance/adapters/cpp/adapter.cpp $objects \
      "$target/ci/liblevada.a" -lpthread -ldl -lm -lgcc_s
    ;;
esac
