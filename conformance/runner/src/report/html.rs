//! The matrix as one page for a browser, with nothing loaded from anywhere.

use std::fmt::Write as _;

use super::junit::escape;
use super::table;
use crate::result::{CaseResult, Report};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Levada conformance</title><style>
:root{color-scheme:light dark;--line:#8884;--good:#1a7f37;--bad:#cf222e;--odd:#9a6700}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:78rem;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem}
th,td{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;vertical-align:top}
td.cell{white-space:nowrap}small{opacity:.7;display:block}
.pass{color:var(--good)}.n-a{opacity:.5}.xfail,.non-strict{color:var(--odd)}.failure{color:var(--bad);font-weight:600}
details pre{white-space:pre-wrap;font-size:12px;max-height:24rem;overflow:auto}
</style></head><body><h1>Levada conformance</h1>
"#;

/// The text of the page.
pub fn text(report: &Report) -> String {
    let mut out = String::from(HEAD);
    let _ = writeln!(
        out,
        "<p>Suite {}.</p><table><tr><th>Client<th>Passed<th>Server<th>Runtime</tr>",
        escape(&report.suite_version)
    );
    for run in &report.runs {
        let (passed, total) = table::score(&run.cases);
        let text = |key: &str| escape(run.hello.get(key).and_then(|value| value.as_str()).unwrap_or(""));
        let class = if run.failed() { "failure" } else { "pass" };
        let _ = writeln!(
            out,
            "<tr><td>{} {}<td class=\"{class}\">{passed} of {total}<td>{}<td>{}</tr>",
            escape(&run.client),
            text("client_version"),
            escape(&run.server_version),
            text("runtime")
        );
    }
    out.push_str("</table>\n");
    for section in table::sections(report) {
        let name = if section.name.is_empty() { "The run itself" } else { section.name };
        let _ = write!(out, "<h2>{}</h2><table><tr><th>Case", escape(name));
        for run in &report.runs {
            let _ = write!(out, "<th>{}", escape(&run.client));
        }
        out.push_str("</tr>\n");
        for row in section.rows {
            let _ = write!(out, "<tr><td>{}<small>{}</small>", escape(row.id), escape(row.title));
            for cell in row.cells {
                write_cell(&mut out, cell);
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>\n");
    }
    out.push_str("</body></html>\n");
    out
}

fn write_cell(out: &mut String, cell: Option<&CaseResult>) {
    let Some(case) = cell else {
        out.push_str("<td class=\"cell\">");
        return;
    };
    let name = case.outcome.name();
    let class = if case.outcome.is_failure() { "failure".to_owned() } else { name.replace('/', "-") };
    if case.message.is_empty() {
        let _ = write!(out, "<td class=\"cell {class}\">{name}");
        return;
    }
    let _ = write!(out, "<td class=\"{class}\"><details><summary>{name}</summary>{}", escape(&case.message));
    if !case.conversation.is_empty() {
        let _ = write!(out, "<pre>{}</pre>", escape(&case.conversation.join("\n")));
    }
    out.push_str("</details>");
}
