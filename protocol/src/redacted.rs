//! URLs as people and logs may see them.

use url::Url;

/// A URL for people and logs: without user name and password, and without what a query or a fragment says: a
/// presigned URL's signature is a key.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    // The options of NFS are no secret, and say which server is meant.
    if url.query().is_some() && url.scheme() != "nfs" {
        shown.set_query(Some("…"));
    }
    shown.set_fragment(None);
    shown.to_string().replace("?%E2%80%A6", "?…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_of_a_url_is_shown() {
        for (url, shown) in [
            ("http://u:p@h:1/x", "http://h:1/x"),
            (
                "https://s3/b/k?X-Amz-Signature=secret#s",
                "https://s3/b/k?…",
            ),
            ("nfs://u@h/x?vers=3", "nfs://h/x?vers=3"),
            ("http://h/x", "http://h/x"),
        ] {
            assert_eq!(redacted(&Url::parse(url).unwrap()), shown);
        }
    }
}
