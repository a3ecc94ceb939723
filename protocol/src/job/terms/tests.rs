use super::*;
use crate::job::preview;
use proptest::prelude::*;
use url::Url;

const UUID: &str = "33221100-5544-7766-8899-aabbccddeeff";
const TURNED: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// Every term that a signed restore needs.
const TERMS: [&str; 5] = [
    "for = { uuid = \"33221100-5544-7766-8899-aabbccddeeff\" }\n",
    "disks = [{ serial = \"QM1\" }, { wwn = \"0x5000\" }]\n",
    "digests = { \"sda.raw.gz\" = \"blake3:0000000000000000000000000000000000000000000000000000000000000000\" }\n",
    "not-after = \"2026-12-31T22:00:00Z\"\n",
    "id = \"lab7-1\"\n",
];

fn job(action: &str, terms: &str) -> Result<Job, String> {
    let url = Url::parse("http://srv/hosts/h.toml").unwrap();
    let text = format!("version = 1\naction = \"{action}\"\nshare = \"http://srv/share\"\n{terms}");
    preview(text.as_bytes(), &url, "10.0.2.15".parse().ok())
}

fn machine() -> MachineIdentity {
    MachineIdentity {
        uuid: UUID.into(),
        serial: "PF1234".into(),
        macs: vec!["52:54:00:12:34:56".into(), "52:54:00:12:34:57".into()],
    }
}

#[test]
fn each_term_that_is_missing_is_named_with_what_to_write() {
    let whole = job("restore", &TERMS.concat()).unwrap();
    assert_eq!(check_signable(&whole), Ok(()));
    for missing in TERMS {
        let rest: String = TERMS
            .iter()
            .filter(|term| **term != missing)
            .copied()
            .collect();
        let (key, what) = check_signable(&job("restore", &rest).unwrap()).unwrap_err();
        assert!(missing.starts_with(key), "{key}: {what}");
        assert!(what.contains("a signed job"), "{what}");
    }
}

#[test]
fn kernel_names_are_no_disks_of_a_signed_job() {
    let by_name = TERMS.concat().replace("{ serial = \"QM1\" }", "\"sda\"");
    let (key, what) = check_signable(&job("restore", &by_name).unwrap()).unwrap_err();
    assert_eq!(key, "disks");
    assert!(what.contains("\"sda\" is a kernel's name"), "{what}");
}

#[test]
fn what_writes_nothing_from_the_share_needs_no_digests() {
    let [whom, disks, _, until, id] = TERMS;
    let with_disks = [whom, disks, until, id].concat();
    let without = [whom, until, id].concat();
    for (action, more) in [("backup", ""), ("wipe", "method = \"zero\"\n")] {
        let both = format!("{with_disks}{more}");
        assert_eq!(
            check_signable(&job(action, &both).unwrap()),
            Ok(()),
            "{action}"
        );
        let none = format!("{without}{more}");
        assert!(
            check_signable(&job(action, &none).unwrap()).is_err(),
            "{action}"
        );
    }
    for action in ["rescue", "refresh-info"] {
        assert_eq!(
            check_signable(&job(action, &without).unwrap()),
            Ok(()),
            "{action}"
        );
    }
    let layout = format!("{with_disks}layout = \"l.toml\"\n");
    let (key, _) = check_signable(&job("partition", &layout).unwrap()).unwrap_err();
    assert_eq!(key, "digests");
}

#[test]
fn a_job_is_for_the_machine_that_has_all_that_is_given() {
    for (written, wrong) in [
        ("mac = \"52-54-00-12-34-57\"", None),
        ("uuid = \"33221100-5544-7766-8899-AABBCCDDEEFF\"", None),
        (&format!("uuid = \"{TURNED}\""), None),
        ("serial = \"PF1234\", mac = \"52:54:00:12:34:56\"", None),
        (
            "mac = \"52:54:00:12:34:58\"",
            Some("MAC address 52:54:00:12:34:58; this machine has 52:54:00:12:34:56"),
        ),
        (
            "uuid = \"43221100-5544-7766-8899-aabbccddeeff\", mac = \"52:54:00:12:34:56\"",
            Some("UUID 43221100-5544-7766-8899-aabbccddeeff; this machine has 3322"),
        ),
        (
            "serial = \"pf1234\"",
            Some("serial number pf1234; this machine has PF1234"),
        ),
    ] {
        let job = job("backup", &format!("for = {{ {written} }}\n")).unwrap();
        let checked = job.terms.meant_for.unwrap().check(&machine());
        match wrong {
            None => assert_eq!(checked, Ok(()), "{written}"),
            Some(why) => assert!(checked.unwrap_err().contains(why), "{written}"),
        }
    }
    let nobody = MeantFor {
        serial: Some("X".into()),
        ..MeantFor::default()
    };
    let error = nobody.check(&MachineIdentity::default()).unwrap_err();
    assert!(error.ends_with("this machine tells none"), "{error}");
}

#[test]
fn values_that_make_no_sense_are_refused_by_key() {
    for (line, why) in [
        ("for = {}", "key \"for\": it names no machine"),
        ("for = { mac = \"x\" }", "not a MAC address"),
        (
            "for = { uuid = \"00000000-0000-0000-0000-000000000000\" }",
            "not a machine's UUID",
        ),
        ("for = { serial = \" \" }", "serial is empty"),
        ("for = { ip = \"10.0.2.15\" }", "unknown key \"ip\""),
        ("digests = {}", "it names no file"),
        (
            "digests = { \"../x\" = \"blake3:0\" }",
            "must not contain . or ..",
        ),
        (
            "digests = { \"sda.raw.gz\" = \"sha256:0\" }",
            "it is not a digest",
        ),
        (
            "not-after = \"tomorrow\"",
            "\"tomorrow\" is not a time with its zone",
        ),
        (
            "not-after = 2026-12-31T22:00:00",
            "is not a time with its zone",
        ),
        ("not-after = 2026-12-31", "is not a time with its zone"),
        ("not-after = 3", "key \"not-after\""),
        ("id = \"\"", "is no id"),
        ("id = \"../x\"", "is no id"),
        ("id = \"a/b\"", "is no id"),
    ] {
        let error = job("backup", &format!("{line}\n")).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn a_job_expires_and_nobody_can_tell_with_a_wrong_clock() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for written in [
        "\"2026-12-31T22:00:00Z\"",
        "2026-12-31T23:00:00+01:00",
        "2026-12-31 22:00:00Z",
    ] {
        let job = job("backup", &format!("not-after = {written}\n")).unwrap();
        let check = |now: &str, clock| job.terms.check_time(at(now), clock);
        assert_eq!(check("2026-12-31T22:00:00Z", Clock::Plausible), Ok(()));
        let late = check("2026-12-31T22:00:01Z", Clock::Plausible).unwrap_err();
        assert!(
            late.contains("has expired: it was to be done by 2026-12-31T22:00:00Z"),
            "{late}"
        );
        let behind = check("2026-11-01T00:00:00Z", Clock::Behind).unwrap_err();
        assert!(behind.contains("clock is wrong"), "{behind}");
        assert!(
            check("2027-01-01T00:00:00Z", Clock::Behind)
                .unwrap_err()
                .contains("expired")
        );
    }
    assert_eq!(
        Terms::default().check_time(at("2026-12-31T22:00:00Z"), Clock::Behind),
        Ok(())
    );
}

#[test]
fn only_the_files_that_the_job_was_made_for_are_taken() {
    let mut terms = Terms::default();
    assert_eq!(terms.check_digest("sda.raw.gz", None), Ok(()));
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    terms.digests.insert("sda.raw.gz".into(), one);
    assert_eq!(terms.check_digest("sda.raw.gz", Some(one)), Ok(()));
    for (name, found, why) in [
        ("sda.raw.gz", Some(two), "is not what the job was made for"),
        ("sda.raw.gz", None, "has no index"),
        ("sdb.raw.gz", Some(one), "digests do not name sdb.raw.gz"),
    ] {
        let error = terms.check_digest(name, found).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_signed_image_needs_no_digest_but_layouts_and_hooks_do() {
    let [whom, disks, _, until, id] = TERMS;
    let without = [whom, disks, until, id, "signed = true\n"].concat();
    let made = |action: &str, more: &str| job(action, &format!("{without}{more}"));
    let tree = "tree = \"web\"\n";
    for (action, more) in [("restore", ""), ("deploy", tree), ("run", tree)] {
        assert_eq!(
            check_signable(&made(action, more).unwrap()),
            Ok(()),
            "{action}"
        );
    }
    let layout = made("partition", "layout = \"l.toml\"\n").unwrap();
    assert_eq!(check_signable(&layout).unwrap_err().0, "digests");
    for (action, more, why) in [
        (
            "deploy",
            "hooks = [\"hooks/a.sh\"]\n",
            "nobody has signed hooks/a.sh",
        ),
        (
            "update",
            "hooks = [\"hooks/a.sh\"]\n",
            "nobody has signed hooks/a.sh",
        ),
        (
            "update",
            "secrets = \"secrets/a.age\"\n",
            "nobody has signed secrets/a.age",
        ),
        (
            "deploy",
            "layout = \"l.toml\"\n",
            "nobody has signed l.toml",
        ),
        (
            "run",
            "overrides = [\"layers/a\"]\n",
            "folders are not taken",
        ),
    ] {
        let error = made(action, &format!("{tree}{more}")).unwrap_err();
        assert!(error.contains(why), "{action} {more}: {error}");
        // Nothing is asked where nobody asks for signatures.
        assert!(job(action, &format!("{tree}{more}")).is_ok());
    }
    let named = "hooks = [\"hooks/a.sh\"]\ndigests = { \"hooks/a.sh\" = \"blake3:0000000000000000000000000000000000000000000000000000000000000000\" }\n";
    assert!(made("deploy", &format!("{tree}{named}")).is_ok());
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    let mut terms = job("restore", "signed = true\n").unwrap().terms;
    assert_eq!(terms.check_tree("web", None), Ok(()));
    assert_eq!(terms.check_digest("sda.raw.gz", None), Ok(()));
    terms.digests.insert("web".into(), one);
    assert!(terms.check_tree("web", Some(two)).is_err());
    assert_eq!(terms.check_tree("db", Some(two)), Ok(()));
    // Files in the image folder are whoever's owns the share: where digests are given they say which count.
    assert!(terms.check_digest("sda.gz", Some(two)).is_err());
    terms.images = ImageProof::None;
    assert!(terms.check_tree("db", Some(two)).is_err());
}

#[test]
fn a_job_with_another_id_is_another_job() {
    let with = |id: &str| job("backup", &format!("id = \"{id}\"\n")).unwrap().digest;
    assert_eq!(with("a"), with("a"));
    assert_ne!(with("a"), with("b"));
    assert_ne!(with("a"), job("backup", "").unwrap().digest);
}

proptest! {
    #[test]
    fn any_values_are_read_without_panic(text in "\\PC{0,40}") {
        for key in ["not-after", "id"] {
            let _ = job("backup", &format!("{key} = {}\n", toml::Value::from(text.as_str())));
        }
        let value = toml::Value::from(text.as_str());
        let _ = job("backup", &format!("for = {{ uuid = {value}, mac = {value}, serial = {value} }}\n"));
        let _ = job("backup", &format!("digests = {{ {value} = {value} }}\n"));
    }
}
