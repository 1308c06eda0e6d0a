//! What users may do, as people write it: `stream/topic:action,…`.

use levada_protocol::ErrorCode;
use levada_protocol::messages::{AccessGrant, Role, RoleInfo};

use crate::error::{Error, Result};

/// The actions, by the bit that each has on the wire.
const ACTIONS: [(u8, &str); 4] = [(1, "read"), (2, "write"), (4, "admin"), (8, "group")];

/// What a user may do. Grants are written as in [`crate::Admin::set_access`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDescription {
    /// Name of the user.
    pub user: String,
    /// Admins may do everything, members what is granted.
    pub role: Role,
    /// Its named roles, by name.
    pub roles: Vec<String>,
    /// Its own grants, by pattern.
    pub grants: Vec<String>,
    /// All it may do, by pattern.
    pub effective: Vec<String>,
}

/// A named role: grants that users can be given together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDescription {
    /// Its name.
    pub role: String,
    /// What it allows, by pattern.
    pub grants: Vec<String>,
    /// Users that have it.
    pub user_count: u32,
}

impl From<RoleInfo> for RoleDescription {
    fn from(info: RoleInfo) -> RoleDescription {
        RoleDescription { role: info.role, grants: grant_texts(&info.grants), user_count: info.user_count }
    }
}

/// What a user may take of the server, all its connections together; absent is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDescription {
    /// Name of the user.
    pub user: String,
    /// Bytes a second it may send.
    pub bytes_in: Option<u64>,
    /// Bytes a second it is sent.
    pub bytes_out: Option<u64>,
    /// Requests a second.
    pub requests: Option<u32>,
    /// Connections at a time.
    pub connections: Option<u32>,
}

/// Reads grants; the server checks the patterns.
pub(crate) fn read_grants(texts: &[String]) -> Result<Vec<AccessGrant>> {
    texts.iter().map(|text| read_grant(text)).collect()
}

fn read_grant(text: &str) -> Result<AccessGrant> {
    let no_grant = || {
        let message =
            format!("{text:?} is no grant: write `stream/topic:action,…` with the actions read, write, admin, group");
        Error::new(ErrorCode::ClientUsage, message).with_detail("argument", "grants")
    };
    let (pattern, actions) = text.split_once(':').ok_or_else(no_grant)?;
    let bit = |name: &str| ACTIONS.iter().find(|(_, known)| *known == name.trim()).map(|(bit, _)| *bit);
    let bits = actions.split(',').map(bit).try_fold(0, |sum, bit| Some(sum | bit?)).ok_or_else(no_grant)?;
    Ok(AccessGrant { pattern: pattern.to_owned(), actions: bits })
}

/// Writes grants.
pub(crate) fn grant_texts(grants: &[AccessGrant]) -> Vec<String> {
    let text = |grant: &AccessGrant| {
        let named = ACTIONS.iter().filter(|(bit, _)| grant.actions & bit != 0).map(|(_, name)| *name);
        format!("{}:{}", grant.pattern, named.collect::<Vec<_>>().join(","))
    };
    grants.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_back_as_they_are_written() {
        let texts = ["shop/*:read,write", "*/*:admin", "a/b:read,write,admin,group"].map(str::to_owned);
        let grants = read_grants(&texts).unwrap();
        assert_eq!(grants[0], AccessGrant { pattern: "shop/*".into(), actions: 3 });
        assert_eq!(grant_texts(&grants), texts);
        assert_eq!(read_grants(&["a/b:group, read".to_owned()]).unwrap()[0].actions, 9);
    }

    #[test]
    fn what_is_no_grant_is_refused_before_anything_is_sent() {
        for text in ["a/b", "a/b:", "a/b:reed", "a/b:read,", ""] {
            let error = read_grants(&[text.to_owned()]).unwrap_err();
            assert!(error.is(ErrorCode::ClientUsage), "{text}: {error}");
        }
    }
}
