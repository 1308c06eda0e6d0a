//! Known failures of a client: an entry must keep failing with the same message, for a reason, until a date. An entry that passes, that
//! matches too much, that no case answers to or that has expired fails the run: the list may only be right.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::result::{CaseResult, Outcome};
use crate::select::glob;

/// What one entry may match at most.
const MAX_HITS: usize = 20;
/// Flaky cases, of all cases run: one in this many.
const FLAKY_QUOTA: usize = 100;

/// The list of a client.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Cases that fail.
    #[serde(default)]
    pub failing: Vec<Entry>,
    /// Cases that pass on one of three attempts.
    #[serde(default)]
    pub flaky: Vec<Entry>,
    /// File it was read from.
    #[serde(skip)]
    pub path: PathBuf,
}

/// An entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Id of a case, or a pattern.
    pub case: String,
    /// Why it fails.
    pub reason: String,
    /// Where that is being worked on.
    #[serde(default)]
    pub issue: Option<String>,
    /// What the failure's message contains.
    #[serde(default)]
    pub message: Option<String>,
    /// Last day the entry holds, `YYYY-MM-DD`.
    pub expires: String,
}

impl Known {
    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Known, String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(&error))?;
        let mut known: Known = crate::yaml::read(&text).map_err(|error| at(&error))?;
        known.path = path.to_owned();
        for entry in known.failing.iter().chain(&known.flaky) {
            if entry.reason.trim().is_empty() {
                return Err(at(&format!("{}: it has no reason", entry.case)));
            }
            if !is_date(&entry.expires) {
                return Err(at(&format!("{}: expires is YYYY-MM-DD, not {:?}", entry.case, entry.expires)));
            }
        }
        Ok(known)
    }

    /// Whether a case may be tried again.
    pub fn is_flaky(&self, id: &str) -> bool {
        self.flaky.iter().any(|entry| glob(&entry.case, id))
    }

    /// Turns failures that are known into `xfail`, passes of what is listed into `xpass`, and says what is wrong with the list.
    /// `full` runs every case, `today` is `YYYY-MM-DD`.
    pub fn apply(&self, cases: &mut [CaseResult], full: bool, today: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for entry in &self.failing {
            let hits = cases.iter().filter(|case| glob(&entry.case, &case.id)).count();
            if MAX_HITS < hits {
                wrong.push(format!("{}: matches {hits} cases, more than {MAX_HITS}", entry.case));
                continue;
            }
            if hits == 0 && full {
                wrong.push(format!("{}: no such case was run", entry.case));
            }
            if entry.expires.as_str() < today {
                wrong.push(format!("{}: expired on {}", entry.case, entry.expires));
                continue;
            }
            for case in cases.iter_mut().filter(|case| glob(&entry.case, &case.id)) {
                entry.judge(case);
            }
        }
        let flaky = cases.iter().filter(|case| self.is_flaky(&case.id)).count();
        if full && cases.len() / FLAKY_QUOTA < flaky {
            wrong.push(format!("{flaky} flaky cases are more than one in {FLAKY_QUOTA}"));
        }
        wrong.extend(
            self.flaky
                .iter()
                .filter(|entry| entry.expires.as_str() < today)
                .map(|entry| format!("{}: expired on {}", entry.case, entry.expires)),
        );
        wrong
    }

    /// The text of the list without the entries whose cases pass, comments and all else kept.
    ///
    /// # Errors
    /// If the file cannot be read again.
    pub fn without(&self, passing: &[&str]) -> Result<String, String> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        let mut kept = String::new();
        let mut dropping = false;
        for line in text.lines() {
            let entry =
                line.trim_start().strip_prefix("- case:").or_else(|| line.trim_start().strip_prefix("- {case:"));
            if let Some(rest) = entry {
                let pattern = rest.split([',', '}', '#']).next().unwrap_or_default().trim().trim_matches(['"', '\'']);
                dropping = passing.iter().any(|id| glob(pattern, id));
            } else if !line.starts_with(' ') || line.trim_start().starts_with('#') {
                dropping = false;
            }
            if !dropping {
                let _ = writeln!(kept, "{line}");
            }
        }
        Ok(kept)
    }
}

impl Entry {
    fn judge(&self, case: &mut CaseResult) {
        match case.outcome {
            Outcome::Pass | Outcome::NonStrict => {
                case.outcome = Outcome::Xpass;
                case.message = format!("listed as failing ({}), and passes: take it off the list", self.reason);
            }
            Outcome::NotApplicable | Outcome::Harness => {}
            _ if self.message.as_ref().is_none_or(|message| case.message.contains(message)) => {
                case.outcome = Outcome::Xfail;
                case.message = format!("{} [{}]", case.message, self.reason);
            }
            _ => {
                let wanted = self.message.clone().unwrap_or_default();
                case.message = format!("{} (known to fail, but with {wanted:?})", case.message);
            }
        }
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts.as_slice(), [year, month, day] if year.len() == 4 && month.len() == 2 && day.len() == 2)
        && parts.iter().all(|part| part.chars().all(|c| c.is_ascii_digit()))
}

/// The day of a time in seconds since the Unix epoch, as `YYYY-MM-DD` (the civil calendar, by Hinnant's method).
pub fn day(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or(0) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Level;

    fn case(id: &str, outcome: Outcome, message: &str) -> CaseResult {
        CaseResult {
            id: id.to_owned(),
            title: String::new(),
            spec: Vec::new(),
            level: Level::Required,
            outcome,
            message: message.to_owned(),
            took_ms: 0,
            reruns: 0,
            steps: Vec::new(),
            conversation: Vec::new(),
            log: String::new(),
            usage: std::collections::BTreeMap::new(),
        }
    }

    fn list(text: &str) -> Known {
        crate::yaml::read(text).unwrap()
    }

    const LIST: &str = "failing:\n- {case: a/x, reason: r, message: boom, expires: 2027-01-01}\n";

    fn judged(list: &Known, outcome: Outcome, message: &str) -> (Outcome, Vec<String>) {
        let mut cases = [case("a/x", outcome, message)];
        let wrong = list.apply(&mut cases, true, "2026-11-23");
        (cases[0].outcome, wrong)
    }

    #[test]
    fn a_known_failure_must_go_on_failing_in_the_same_way() {
        assert_eq!(judged(&list(LIST), Outcome::Fail, "it went boom"), (Outcome::Xfail, vec![]));
        assert_eq!(judged(&list(LIST), Outcome::Fail, "it went bang"), (Outcome::Fail, vec![]));
        assert_eq!(judged(&list(LIST), Outcome::Pass, ""), (Outcome::Xpass, vec![]));
    }

    #[test]
    fn a_list_that_is_not_right_is_told() {
        let expired = LIST.replace("2027", "2025");
        assert_eq!(judged(&list(&expired), Outcome::Fail, "boom").0, Outcome::Fail);
        assert_eq!(judged(&list(&expired), Outcome::Fail, "boom").1.len(), 1);
        let absent = list(&LIST.replace("a/x", "a/y"));
        assert_eq!(absent.apply(&mut [case("a/x", Outcome::Pass, "")], true, "2026-11-23").len(), 1);
        assert_eq!(absent.apply(&mut [case("a/x", Outcome::Pass, "")], false, "2026-11-23").len(), 0);
        let mut many: Vec<CaseResult> = (0..21).map(|n| case(&format!("a/{n}"), Outcome::Fail, "boom")).collect();
        assert_eq!(list(&LIST.replace("a/x", "a/*")).apply(&mut many, true, "2026-11-23").len(), 1);
        assert_eq!(many[0].outcome, Outcome::Fail);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(1_795_392_000), "2026-11-23");
    }
}
