//! Where a run is reported to: the host file's `report` and `report-token`.

use crate::credentials::{Access, Credentials};
use crate::job::hostfile::{HostFile, Secret};
use url::Url;

/// A place that takes events. It is no part of the work: that it cannot be reached changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTo {
    pub url: Url,
    /// What its server is shown, and no other.
    pub access: Option<Access>,
}

impl ReportTo {
    pub fn new(url: Url, credentials: Option<Credentials>) -> Self {
        Self {
            access: credentials.map(|credentials| Access::new(credentials, [&url])),
            url,
        }
    }
}

/// Reads both keys. Nothing here may show a token, or what a URL carries.
///
/// # Errors
/// The key, and what is wrong with it.
pub(super) fn report(
    file: &HostFile,
    with_values: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<ReportTo>, (&'static str, String)> {
    let credentials = match &file.report_token {
        None => None,
        Some(Secret(token)) => {
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let what = "it must be visible ASCII without spaces".into();
                return Err(("report-token", what));
            }
            Some(Credentials::Bearer {
                token: token.clone(),
            })
        }
    };
    let Some(written) = &file.report else {
        // Settings of many machines may have the one and not the other.
        return Ok(None);
    };
    let wrong = |what: String| ("report", what);
    let url = Url::parse(&with_values(written).map_err(wrong)?)
        .map_err(|error| wrong(format!("it is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        let scheme = url.scheme();
        return Err(wrong(format!(
            "events are sent by http or https, not {scheme}: write http://server:8080/report/JOB"
        )));
    }
    Ok(Some(ReportTo::new(url, credentials)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ReportTo>, (&'static str, String)> {
        let text = format!("version = 1\n{text}");
        let file = HostFile::parse(text.as_bytes(), "f").unwrap();
        report(&file, |text| Ok(text.replace("{ip}", "10.0.2.15")))
    }

    #[test]
    fn a_token_goes_to_the_reports_server_alone_and_is_not_shown() {
        let to = read("report = \"http://srv:8080/report/{ip}\"\nreport-token = \"s3cr3t\"\n")
            .unwrap()
            .unwrap();
        assert_eq!(to.url.as_str(), "http://srv:8080/report/10.0.2.15");
        assert!(!format!("{to:?}").contains("s3cr3t"), "{to:?}");
        let access = to.access.unwrap();
        assert!(access.for_server_of(&to.url).is_some());
        assert!(
            access
                .for_server_of(&Url::parse("http://srv/x").unwrap())
                .is_none()
        );
        assert_eq!(read("report-token = \"x\"\n"), Ok(None));
    }

    #[test]
    fn what_is_wrong_names_the_key_and_no_secret() {
        for (text, key, why) in [
            (
                "report = \"nfs://srv/x\"\n",
                "report",
                "by http or https, not nfs",
            ),
            ("report = \"srv/x\"\n", "report", "not a URL"),
            (
                "report-token = \"s3 cret\"\n",
                "report-token",
                "visible ASCII",
            ),
            ("report-token = \"\"\n", "report-token", "visible ASCII"),
        ] {
            let (at, what) = read(text).unwrap_err();
            assert_eq!(at, key);
            assert!(what.contains(why) && !what.contains("cret"), "{what}");
        }
    }
}
