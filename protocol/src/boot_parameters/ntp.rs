//! `pitstop.ntp=`: who knows what time it is.

use std::fmt;

/// RFC 4330 3
const PORT: u16 = 123;

/// A time server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NtpServer {
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

impl NtpServer {
    /// A server on the port that all of them have.
    pub fn usual(host: impl fmt::Display) -> Self {
        Self {
            host: host.to_string(),
            port: PORT,
        }
    }

    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT`, several of them with commas between.
    ///
    /// # Errors
    /// A sentence that says what it should be.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(Self::one).collect()
    }

    fn one(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a server: write a name or an address, or HOST:PORT");
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self::usual(text));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (
                host,
                port.parse()
                    .ok()
                    .filter(|&port| port > 0)
                    .ok_or_else(wrong)?,
            ),
            _ => (text, PORT),
        };
        let host = match host.strip_prefix('[') {
            Some(inner) => inner
                .strip_suffix(']')
                .filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
                .ok_or_else(wrong)?,
            None if is_name(host) => host,
            None => return Err(wrong()),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// RFC 1123 2.1, dotted addresses among them.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with(['-', '.'])
}

impl fmt::Display for NtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (_, PORT) => f.write_str(&self.host),
            (true, port) => write!(f, "[{}]:{port}", self.host),
            (false, port) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_are_names_or_addresses_with_or_without_a_port() {
        let read = |text| -> Vec<(String, u16)> {
            let list = NtpServer::list(text).unwrap();
            list.into_iter().map(|one| (one.host, one.port)).collect()
        };
        assert_eq!(read("ntp.lab"), [("ntp.lab".into(), 123)]);
        assert_eq!(read("10.0.2.2:4460"), [("10.0.2.2".into(), 4460)]);
        assert_eq!(
            read("fec0::2,[fec0::3]:124,[fec0::4]"),
            [
                ("fec0::2".into(), 123),
                ("fec0::3".into(), 124),
                ("fec0::4".into(), 123)
            ]
        );
        for wrong in [
            "", "a,,b", "a:0", "a:70000", "a b", "ntp://a", "[a]:1", "a:b:1", "-x",
        ] {
            let error = NtpServer::list(wrong).unwrap_err();
            assert!(error.contains("is not a server: write"), "{wrong}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(text in "[a-z0-9:.,\\[\\]-]{0,30}") {
            for server in NtpServer::list(&text).unwrap_or_default() {
                prop_assert_eq!(NtpServer::list(&server.to_string()), Ok(vec![server]));
            }
        }
    }
}
