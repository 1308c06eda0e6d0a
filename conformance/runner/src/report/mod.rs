//! Reports of runs: one machine-readable file, and views of it for a build server, a page of text and a browser.

pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod table;

use std::path::Path;

use crate::result::Report;

/// Writes every form into a folder.
///
/// # Errors
/// Of the file system.
pub fn write_all(report: &Report, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    json::write(report, &folder.join("report.json"))?;
    std::fs::write(folder.join("junit.xml"), junit::text(report))?;
    std::fs::write(folder.join("matrix.md"), markdown::text(report))?;
    std::fs::write(folder.join("matrix.html"), html::text(report))
}
