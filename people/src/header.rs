//! What clients show: the values of `Authorization` and `Cookie`.

/// The token of `Bearer TOKEN` (RFC 6750 2.1); the scheme's case does not matter (RFC 9110 11.1).
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_matches(' ').split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && plain).then_some(token)
}

/// The value of the cookie `name` in `a=1; b=2` (RFC 6265 4.2.1); of several the first.
pub fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = header.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    Some(quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bearer_token_is_found() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER a.b-c_d~/+=", Some("a.b-c_d~/+=")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a b", None),
            ("Bearer\tabc", None),
            ("Basic YTpi", None),
            ("", None),
        ] {
            assert_eq!(bearer(header), token, "{header:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        for (header, value) in [
            ("s=1", Some("1")),
            ("a=2; s=1; b=3", Some("1")),
            ("a=2;s = \"1\"", Some("1")),
            ("xs=1; s2=1", None),
            ("s", None),
            ("s=", Some("")),
            ("s=1; s=2", Some("1")),
            ("", None),
        ] {
            assert_eq!(cookie(header, "s"), value, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(text in "\\PC{0,60}", value in "[!#-+\\--:<-~]{1,40}") {
            let _ = bearer(&text);
            let _ = cookie(&text, "s");
            let token = format!("Bearer {value}");
            prop_assert_eq!(bearer(&token), Some(value.as_str()));
            let cookies = format!("a=1; s={value}; c=\"x\"");
            prop_assert_eq!(cookie(&cookies, "s"), Some(value.as_str()));
        }
    }
}
