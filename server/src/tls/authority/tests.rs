use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(all: &[&str]) -> BTreeSet<Name> {
    all.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn an_authority_is_made_once_and_is_nobody_elses() {
    let root = tempfile::tempdir().unwrap();
    assert!(Authority::open(root.path()).unwrap().is_none());
    let made = Authority::open_or_make(root.path()).unwrap();
    let again = Authority::open_or_make(root.path()).unwrap();
    assert_eq!(made.facts, again.facts);
    let folder = root.path().join(FOLDER);
    assert_eq!(mode(&folder), 0o700);
    for name in [KEY, CERTIFICATE] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert!(made.pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
    let years = (made.facts.until - made.facts.from).total(jiff::Unit::Hour);
    assert!(years.unwrap() > 9.0 * 8760.0);
    // What somebody opened to others is closed again.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    Authority::open(root.path()).unwrap().unwrap();
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn what_it_issues_is_for_those_names_and_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_make(root.path()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    assert!(authority.last(&provider).is_none());
    let names = names(&["srv.lab.example", "192.168.1.10", "2001:db8::7"]);
    let now = Timestamp::now();
    let (made, not_kept) = authority.issue(&names, now, &provider).unwrap();
    assert!(not_kept.is_none());
    let facts = Facts::read(&made.cert[0]).unwrap();
    assert_eq!(facts.names, names);
    // The clock of a machine without a battery stands at the making of its initramfs.
    assert_eq!(facts.from, authority.facts.from);
    assert!(facts.until > now + SignedDuration::from_hours(24 * 89));
    let found = authority.last(&provider).unwrap();
    assert_eq!(found.cert, made.cert);
    assert_eq!(mode(&root.path().join("tls/server.pem")), 0o600);
    // Years later it is not valid since more than Apple's browsers take.
    let later = now + SignedDuration::from_hours(24 * 365 * 5);
    let (made, _) = authority.issue(&names, later, &provider).unwrap();
    let facts = Facts::read(&made.cert[0]).unwrap();
    let days = (facts.until - facts.from).total(jiff::Unit::Hour).unwrap() / 24.0;
    assert!((819.0..=825.0).contains(&days), "{days}");
    // And never beyond the authority.
    let last = authority.facts.until - SignedDuration::from_hours(24);
    let (made, _) = authority.issue(&names, last, &provider).unwrap();
    assert_eq!(
        Facts::read(&made.cert[0]).unwrap().until,
        authority.facts.until
    );
    let over = authority.issue(&names, authority.facts.until, &provider);
    let error = format!("{:#}", over.unwrap_err());
    assert!(error.contains("a new one is made"), "{error}");
}

#[test]
fn another_authoritys_certificate_and_a_wrong_key_are_not_taken() {
    let root = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let authority = Authority::open_or_make(root.path()).unwrap();
    let stranger = Authority::open_or_make(other.path()).unwrap();
    stranger
        .issue(&names(&["srv"]), Timestamp::now(), &provider)
        .unwrap();
    let copy = |name: &str| {
        let from = other.path().join(FOLDER).join(name);
        std::fs::copy(from, root.path().join(FOLDER).join(name)).unwrap();
    };
    copy(SERVER);
    assert!(authority.last(&provider).is_none());
    copy(KEY);
    let error = format!("{:#}", Authority::open(root.path()).err().unwrap());
    assert!(error.contains("ca.key is not the key of "), "{error}");
}
