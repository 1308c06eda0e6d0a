//! The report as JUnit XML, which build servers read: a test suite per client, a test case per case.

use std::fmt::Write as _;

use crate::result::{CaseResult, Outcome, Report};

/// The text of the file.
pub fn text(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for run in &report.runs {
        let failures = run.cases.iter().filter(|case| case.outcome.is_failure()).count();
        let skipped = run.cases.iter().filter(|case| is_skipped(case)).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{}\">",
            escape(&run.client),
            run.cases.len(),
            seconds(run.took_ms)
        );
        for case in &run.cases {
            write_case(&mut out, &run.client, case);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn is_skipped(case: &CaseResult) -> bool {
    matches!(case.outcome, Outcome::NotApplicable | Outcome::Xfail)
}

fn write_case(out: &mut String, client: &str, case: &CaseResult) {
    let (class, name) = case.id.split_once('/').unwrap_or(("", &case.id));
    let _ = write!(
        out,
        "    <testcase classname=\"{}.{}\" name=\"{}\" time=\"{}\"",
        escape(client),
        escape(class),
        escape(name),
        seconds(case.took_ms)
    );
    if case.outcome.is_failure() {
        let _ =
            writeln!(out, ">\n      <failure type=\"{}\" message=\"{}\">", case.outcome.name(), escape(&case.message));
        for step in &case.steps {
            let _ = writeln!(out, "{}", escape(&format!("{} ({} ms): {}", step.what, step.took_ms, step.outcome)));
        }
        for line in &case.conversation {
            let _ = writeln!(out, "{}", escape(line));
        }
        out.push_str("      </failure>\n    </testcase>\n");
    } else if is_skipped(case) {
        let _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", escape(&case.message));
    } else {
        out.push_str("/>\n");
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// Text as XML and HTML want it; control characters that neither can hold are left out.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
