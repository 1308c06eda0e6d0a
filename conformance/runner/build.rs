//! Builds the cases and the vectors of the protocol into the program: tables of file names and texts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    // Asked for when it runs: a build directory may be copied to another checkout.
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut table = String::new();
    write_table(&mut table, "CASES", "File and text of each suite.", &here.join("../cases"), "yaml")?;
    write_table(
        &mut table,
        "VECTORS",
        "File and text of each list of vectors.",
        &here.join("../../protocol-spec/vectors"),
        "json",
    )?;
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    std::fs::write(out.join("cases.rs"), table)
}

fn write_table(table: &mut String, name: &str, doc: &str, folder: &Path, extension: &str) -> std::io::Result<()> {
    let folder = folder.canonicalize()?;
    let mut files = Vec::new();
    files_under(&folder, extension, &mut files)?;
    files.sort();
    let _ = writeln!(table, "/// {doc}\npub const {name}: &[(&str, &str)] = &[");
    for file in files {
        let short = file.strip_prefix(&folder).unwrap_or(&file);
        let _ =
            writeln!(table, "    ({:?}, include_str!({:?})),", short.display().to_string(), file.display().to_string());
    }
    table.push_str("];\n");
    Ok(())
}

fn files_under(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_under(&path, extension, files)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(())
}
