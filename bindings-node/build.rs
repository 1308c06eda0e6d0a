//! Link arguments of a Node module. It stays loaded when the environment that loaded it ends: threads of the client core
//! may outlive a worker.

fn main() {
    napi_build::setup();
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-cdylib=-Wl,-z,nodelete");
    }
}
