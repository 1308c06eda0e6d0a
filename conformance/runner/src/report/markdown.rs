//! The matrix as Markdown, for pages and pull requests.

use std::fmt::Write as _;

use super::table;
use crate::result::Report;

/// The text of the page.
pub fn text(report: &Report) -> String {
    let mut out = String::from("# Conformance\n\n");
    let _ = writeln!(out, "Suite {}.\n", report.suite_version);
    out.push_str(
        "| Client | Version | Server | Passed | Not applicable | Failed | Seconds |\n|---|---|---|---|---|---|---|\n",
    );
    for run in &report.runs {
        let (passed, total) = table::score(&run.cases);
        let failed: Vec<&str> =
            run.cases.iter().filter(|case| case.outcome.is_failure()).map(|case| case.id.as_str()).collect();
        let version = run.hello.get("client_version").and_then(|version| version.as_str()).unwrap_or("");
        let _ = writeln!(
            out,
            "| {} | {version} | {} | {passed} of {total} | {} | {} | {} |",
            run.client,
            run.server_version,
            run.cases.len() - total,
            if failed.is_empty() { "none".to_owned() } else { failed.join(", ") },
            run.took_ms / 1000
        );
    }
    for section in table::sections(report) {
        let name = if section.name.is_empty() { "The run itself" } else { section.name };
        let columns: Vec<&str> = report.runs.iter().map(|run| run.client.as_str()).collect();
        let _ =
            writeln!(out, "\n## {name}\n\n| Case | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
        for row in section.rows {
            let cells: Vec<&str> = row.cells.iter().map(|cell| cell.map_or("", |case| case.outcome.name())).collect();
            let _ = writeln!(out, "| {}<br>{} | {} |", row.id, row.title, cells.join(" | "));
        }
    }
    out
}
