//! What commands print: tables and lines for people, JSON for machines, notes and progress on standard error.
//!
//! Colour and progress appear on terminals only, and colour never when NO_COLOR is set. JSON on a terminal is indented;
//! elsewhere it is one line.

use crate::args::Format;
use crate::failure::Failure;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    format: Format,
    quiet: bool,
    output_is_terminal: bool,
    notes_are_on_terminal: bool,
    colour_allowed: bool,
}

/// A cell of a table: text, or a figure that is aligned to the right.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Figure(String),
    /// Something to notice.
    Alert(String),
}

impl Screen {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            format,
            quiet,
            output_is_terminal: io::stdout().is_terminal(),
            notes_are_on_terminal: io::stderr().is_terminal(),
            colour_allowed: !set("NO_COLOR") && !dumb,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn output_is_terminal(&self) -> bool {
        self.output_is_terminal
    }

    /// Whether standard output may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.output_is_terminal && self.colour_allowed
    }

    /// Prints `value` as JSON, or what `table` makes for people.
    pub(crate) fn show<T: Serialize>(&self, value: &T, people: impl FnOnce(&Self) -> String) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(value);
        }
        self.text(&people(self))
    }

    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text =
            if self.output_is_terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.text(&text.map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?)
    }

    /// Prints text and a line end, if there is text.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        write!(out, "{text}{newline}").and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Says something on standard error, unless asked to be quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Says something on standard error in any case. There is nobody to tell if that fails.
    pub(crate) fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Says how the command ended badly.
    pub(crate) fn failure(&self, failure: &Failure) {
        let (strong, plain) =
            if self.notes_are_on_terminal && self.colour_allowed { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.warn(&format!("{strong}levada:{plain} {failure}"));
    }

    /// A table without lines, its header bold where that can be seen.
    pub(crate) fn table<const N: usize>(&self, header: [&str; N], rows: Vec<[Value; N]>) -> String {
        let mut table = self.empty_table();
        let figures: [bool; N] = std::array::from_fn(|i| rows.iter().any(|row| matches!(row[i], Value::Figure(_))));
        table.set_header(header.iter().zip(figures).map(|(name, figure)| {
            let cell = Cell::new(name).add_attribute(Attribute::Bold);
            if figure { cell.set_alignment(CellAlignment::Right) } else { cell }
        }));
        for row in rows {
            table.add_row(row.into_iter().map(Value::into_cell));
        }
        trimmed(&mut table)
    }

    /// Names and values below each other.
    pub(crate) fn properties(&self, rows: Vec<(&str, Value)>) -> String {
        let mut table = self.empty_table();
        for (name, value) in rows {
            let value = if let Value::Figure(text) = value { Value::Text(text) } else { value };
            table.add_row([Cell::new(name).add_attribute(Attribute::Bold), value.into_cell()]);
        }
        trimmed(&mut table)
    }

    fn empty_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.output_is_terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if self.colour() {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    /// A progress bar in bytes on standard error, or an invisible one.
    pub(crate) fn progress_bytes(&self, total_bytes: Option<u64>) -> ProgressBar {
        let template = match total_bytes {
            Some(_) => {
                "{bar:32} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {msg}  {eta} left"
            }
            None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}",
        };
        self.progress(total_bytes, template)
    }

    /// A progress bar in steps on standard error, or an invisible one.
    pub(crate) fn progress_count(&self, total: u64) -> ProgressBar {
        self.progress(Some(total), "{prefix:10} {bar:32} {percent:>3}%  {human_pos}  {msg}  {eta} left")
    }

    fn progress(&self, total: Option<u64>, template: &str) -> ProgressBar {
        if self.quiet || !self.notes_are_on_terminal {
            return ProgressBar::hidden();
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Value {
    pub(crate) fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// An RFC 3339 time to the second.
    pub(crate) fn time(rfc3339: &str) -> Self {
        match (rfc3339.get(..10), rfc3339.get(10..11), rfc3339.get(11..19)) {
            (Some(date), Some("T"), Some(time)) => Self::Text(format!("{date} {time}Z")),
            _ => Self::Text(rfc3339.to_owned()),
        }
    }

    pub(crate) fn figure(value: impl ToString) -> Self {
        Self::Figure(value.to_string())
    }

    fn into_cell(self) -> Cell {
        match self {
            Self::Text(text) => Cell::new(text),
            Self::Figure(text) => Cell::new(text).set_alignment(CellAlignment::Right),
            Self::Alert(text) => Cell::new(text).fg(comfy_table::Color::Red),
        }
    }
}

/// The lines of a borderless table, its columns two blanks apart, without blanks at their ends.
fn trimmed(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_screen() -> Screen {
        Screen {
            format: Format::Table,
            quiet: true,
            output_is_terminal: false,
            notes_are_on_terminal: false,
            colour_allowed: true,
        }
    }

    #[test]
    fn tables_align_figures_to_the_right_and_have_no_colour_off_terminals() {
        let table = plain_screen().table(
            ["TOPIC", "MESSAGES"],
            vec![
                [Value::text("shop/orders"), Value::figure("12")],
                [Value::Alert("x".to_owned()), Value::figure("1,234")],
            ],
        );
        assert_eq!(table, "TOPIC        MESSAGES\nshop/orders        12\nx               1,234\n");
        assert!(!plain_screen().colour());
    }

    #[test]
    fn properties_are_names_and_values() {
        let text = plain_screen().properties(vec![("Stream", Value::text("shop")), ("Topics", Value::figure(2))]);
        assert_eq!(text, "Stream  shop\nTopics  2\n");
    }

    #[test]
    fn progress_is_hidden_without_a_terminal() {
        assert!(plain_screen().progress_bytes(Some(10)).is_hidden());
        assert!(plain_screen().progress_count(10).is_hidden());
    }
}
