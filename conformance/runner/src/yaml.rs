//! YAML as the suite's files are written: `yes`, `no`, `on` and `n` are words, not truths.

use serde::de::DeserializeOwned;

/// Reads a document.
///
/// # Errors
/// What is wrong and where, for a person.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn words_stay_words() {
        let read: Value =
            super::read("{yes: no, on: off, n: true, big: 18446744073709551615, low: -9223372036854775808}").unwrap();
        assert_eq!(
            read,
            json!({"yes": "no", "on": "off", "n": true, "big": 18_446_744_073_709_551_615_u64, "low": i64::MIN})
        );
    }
}
