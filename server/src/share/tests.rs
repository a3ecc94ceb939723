//! Where a MOVE goes.

use super::*;

fn to(destination_header: &str) -> Result<String, StatusCode> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("10.0.2.2:8080"));
    headers.insert(
        "destination",
        HeaderValue::from_str(destination_header).unwrap(),
    );
    destination(&headers, "http://srv:80")
        .map(|path| path.as_str().to_owned())
        .map_err(|refusal| refusal.status)
}

#[test]
fn a_destination_is_a_path_or_a_url_of_this_server() {
    assert_eq!(to("/share/a%20b"), Ok("a b".into()));
    assert_eq!(to("http://10.0.2.2:8080/share/a/b"), Ok("a/b".into()));
    assert_eq!(to("http://srv:80/share/a"), Ok("a".into()));
    assert_eq!(to("http://other/share/a"), Err(StatusCode::BAD_GATEWAY));
    assert_eq!(to("/hosts/a"), Err(StatusCode::FORBIDDEN));
    assert_eq!(to("/share/../hosts/a"), Err(StatusCode::BAD_REQUEST));
    assert_eq!(to("/share/%2e%2e/a"), Err(StatusCode::BAD_REQUEST));
    assert_eq!(to(""), Err(StatusCode::BAD_REQUEST));
    assert_eq!(to("/sharex/a"), Err(StatusCode::FORBIDDEN));
}
