//! Whether a browser sends a request on behalf of a page of this server, or of one elsewhere.

use super::Asked;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};
use std::net::IpAddr;

/// Refuses what a page of another site makes a browser send. Where no log-in is needed (`open`), it refuses other names for this
/// machine as well: a page elsewhere whose name is pointed at the loopback would be of the same origin.
///
/// # Errors
/// A sentence.
pub fn check(asked: &Asked, open: bool) -> Result<(), &'static str> {
    let host = asked.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.or_else(|| asked.uri.authority().map(Authority::as_str));
    if open && host.is_some_and(|host| !is_own_name(host)) {
        return Err(
            "until there is a user this is reached as http://127.0.0.1 or http://localhost alone",
        );
    }
    if is_cross_site(&asked.headers, &asked.method, host) {
        return Err("a page of another site may not ask this");
    }
    Ok(())
}

/// Whether the browser says that the request is another site's. Programs say nothing.
fn is_cross_site(headers: &HeaderMap, method: &Method, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    // A link from elsewhere that somebody follows, to look.
    let follows = *method == Method::GET
        && text("sec-fetch-mode") == Some("navigate")
        && text("sec-fetch-dest") == Some("document");
    let elsewhere = |site: &str| !matches!(site, "same-origin" | "none");
    if text("sec-fetch-site").is_some_and(elsewhere) && !follows {
        return true;
    }
    // `null` is a page that hides where it is from.
    let own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, rest)| rest);
        authority.is_some() && authority.map(with_port_left_out) == host.map(with_port_left_out)
    };
    text("origin").is_some_and(|origin| !own(origin)) && !follows
}

/// A browser leaves out the usual port, in both headers alike; case means nothing in a name.
fn with_port_left_out(authority: &str) -> String {
    let short = [":80", ":443"]
        .iter()
        .find_map(|port| authority.strip_suffix(port));
    short.unwrap_or(authority).to_ascii_lowercase()
}

/// `localhost` or an address, which nobody can point elsewhere.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    local(&name.to_ascii_lowercase()) || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn cross(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        is_cross_site(&map, method, Some("srv:8080"))
    }

    #[test]
    fn only_own_pages_and_programs_pass() {
        for (headers, no) in [
            (&[][..], false),
            (&[("origin", "http://srv:8080")], false),
            (&[("origin", "https://SRV:8080")], false),
            (&[("origin", "http://srv:8081")], true),
            (&[("origin", "http://srv")], true),
            (&[("origin", "http://evil")], true),
            (&[("origin", "null")], true),
            (&[("origin", "srv:8080")], true),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
        ] {
            assert_eq!(cross(&Method::POST, headers), no, "{headers:?}");
            assert_eq!(cross(&Method::GET, headers), no, "{headers:?}");
        }
        let follows = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(!cross(&Method::GET, &follows));
        assert!(cross(&Method::POST, &follows));
        let framed = [follows[0], follows[1], ("sec-fetch-dest", "iframe")];
        assert!(cross(&Method::GET, &framed));
    }

    #[test]
    fn a_name_that_can_be_pointed_anywhere_is_not_the_loopbacks() {
        for own in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "192.0.2.1:80",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for other in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[evil]",
        ] {
            assert!(!is_own_name(other), "{other}");
        }
    }
}
