#!/bin/sh
# Builds an adapter (c or cpp) against the library of this tree, into conformance/adapters/LANGUAGE/build, or with `sanitized` into
# conformance/adapters/LANGUAGE/sanitized: it ends with an error then when it misuses memory, leaks, or has undefined behaviour. What
# CFLAGS or CXXFLAGS say is added.
set -eu
cd "$(dirname "$0")/../.."
language=$1
kind=${2:-build}
cargo build --quiet --profile ci --locked -p levada-c
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
shared=conformance/adapters/c
out=conformance/adapters/$language/$kind
strict="-O2 -g -Wall -Wextra -Werror -D_GNU_SOURCE -Ibindings-c/include -I$shared"
case $kind in
  build) ;;
  sanitized) strict="$strict -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" ;;
esac
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
