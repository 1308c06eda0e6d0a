//! How the shared library is linked: its SONAME is the ABI number, and it is never unloaded, because threads and a handler of
//! fork live in it.

/// The same as `LEVADA_ABI_VERSION`; a test compares them with the library.
const ABI_VERSION: u32 = 1;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblevada.so.{ABI_VERSION}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
