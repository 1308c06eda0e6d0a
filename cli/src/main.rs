//! The `levada` command line. `args` says what can be asked, `commands` does it, `failure` is how it ends badly.

mod address;
mod args;
mod failure;
mod input;
mod render;
mod screen;
mod units;

fn main() {
    use clap::Parser;
    let _ = args::Cli::parse();
}
