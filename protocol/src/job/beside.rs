//! What lies beside a host file: its signature, and what a server adds to a file that it cannot change because that is
//! signed.

use crate::job::hostfile::{HostFile, Secret};
use serde::Deserialize;
use std::fmt::Write as _;
use url::Url;

/// Behind the host file's whole name: `0A00020F.toml.minisig`.
pub const SIGNATURE: &str = ".minisig";

/// As [`SIGNATURE`]. The file says where the machine checks in and reports, and has its token; nothing else.
pub const UNSIGNED: &str = ".unsigned";

/// The files that belong to the host file `name`, and go with it.
pub fn companions(name: &str) -> [String; 2] {
    [SIGNATURE, UNSIGNED].map(|suffix| format!("{name}{suffix}"))
}

/// The file beside a host file whose name has `suffix` behind it.
#[must_use]
pub fn beside(url: &Url, suffix: &str) -> Url {
    let mut beside = url.clone();
    beside.set_path(&format!("{}{suffix}", url.path()));
    beside
}

/// What nobody signs: it changes where is told what happens, and may say that nothing shall; never what is done.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Unsigned {
    pub check_in: Option<String>,
    pub report: Option<String>,
    pub report_token: Option<Secret>,
    /// For the share: whoever puts in a wrong one has the share refuse the machine.
    pub token: Option<Secret>,
}

impl Unsigned {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence. No message quotes a token.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        toml::from_str(text).map_err(|error| {
            format!(
                "it may hold check-in, report, report-token and token alone: {}",
                error.message().replace('\n', " ")
            )
        })
    }

    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let secret = |key: &Option<Secret>| key.as_ref().map(|Secret(token)| token.clone());
        for (key, value) in [
            ("check-in", self.check_in.clone()),
            ("report", self.report.clone()),
            ("report-token", secret(&self.report_token)),
            ("token", secret(&self.token)),
        ] {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{key} = {}", toml::Value::from(value));
            }
        }
        text
    }

    /// Adds what the host file itself does not say. Of a report its token is a part.
    pub fn add_to(self, file: &mut HostFile) {
        if file.check_in.is_none() {
            file.check_in = self.check_in;
        }
        if file.report.is_none() {
            file.report = self.report;
            file.report_token = self.report_token;
        }
        if file.token.is_none() && file.user.is_none() && file.password.is_none() {
            file.token = self.token;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_behind_the_whole_name() {
        let url = Url::parse("http://srv/hosts/0A00020F.toml?x=1").unwrap();
        let signature = beside(&url, SIGNATURE);
        assert_eq!(
            signature.as_str(),
            "http://srv/hosts/0A00020F.toml.minisig?x=1"
        );
        assert_eq!(companions("a.toml"), ["a.toml.minisig", "a.toml.unsigned"]);
    }

    #[test]
    fn only_where_to_tell_can_be_said_without_a_signature() {
        let all = Unsigned {
            check_in: Some("http://srv/check-in/1".into()),
            report: Some("http://srv/report/1".into()),
            report_token: Some(Secret("t\"".into())),
            token: Some(Secret("s".into())),
        };
        assert_eq!(Unsigned::parse(all.to_toml().as_bytes()), Ok(all.clone()));
        for more in [
            "action = \"wipe\"",
            "share = \"http://x/\"",
            "disks = []",
            "version = 1",
        ] {
            let error = Unsigned::parse(more.as_bytes()).unwrap_err();
            assert!(
                error.contains("check-in, report, report-token and token alone"),
                "{error}"
            );
        }
        let secret = Unsigned::parse(b"report-token = 12345\n").unwrap_err();
        assert!(!secret.contains("12345"), "{secret}");
        let mut own = HostFile {
            report: Some("http://own/".into()),
            ..HostFile::default()
        };
        all.clone().add_to(&mut own);
        assert_eq!(own.report.as_deref(), Some("http://own/"));
        // The token is for the server of the other report.
        assert_eq!((own.report_token, own.check_in), (None, all.check_in));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Unsigned::parse(&noise);
        }
    }
}
