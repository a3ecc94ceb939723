use super::*;
use proptest::prelude::*;

const PEER: &str = "192.0.2.7";

fn rights(image: Option<(&str, bool)>) -> Rights {
    Rights {
        own: "10.0.2.15".into(),
        image: image.map(|(image, writes)| (image.to_owned(), writes)),
        note: None,
        tree: OfTree::default(),
    }
}

fn path(text: &str) -> RelPath {
    RelPath::from_text(text).unwrap()
}

#[test]
fn a_machine_writes_its_own_folder_and_reads_its_image() {
    let rights = rights(Some(("lab3/golden", false)));
    for (act, name, may) in [
        (Act::Read, "10.0.2.15/sda.raw.gz", true),
        (Act::Write, "10.0.2.15/sda.raw.gz.new.part", true),
        (Act::Write, "10.0.2.15", true),
        (Act::Read, "10.0.2.16/sda.raw.gz", false),
        (Act::Read, "10.0.2.1", false),
        (Act::Read, "10.0.2.155/x", false),
        (Act::Write, "10.0.2.155/x", false),
        (Act::Read, "lab3/golden/sda.raw.gz", true),
        (Act::Write, "lab3/golden/sda.raw.gz", false),
        (Act::Write, "lab3", false),
        (Act::Read, "lab3", false),
        (Act::Read, "pitstop-share", true),
        (Act::Write, "pitstop-share", false),
        (Act::Read, "", false),
        (Act::Write, "", false),
        (Act::Ask, "10.0.2.16/x", true),
    ] {
        assert_eq!(rights.allow(act, &path(name)), may, "{act:?} {name}");
    }
    let once = super::Rights {
        note: Some(note("one")),
        ..super::Rights {
            own: rights.own.clone(),
            image: None,
            note: None,
            tree: OfTree::default(),
        }
    };
    for (name, may) in [
        ("signed-jobs/one.toml", true),
        ("signed-jobs/one.toml.part", true),
        ("signed-jobs", false),
        ("signed-jobs/two.toml", false),
        ("signed-jobs/one.toml.toml", false),
    ] {
        assert_eq!(once.allow(Act::Write, &path(name)), may, "{name}");
        assert!(!rights.allow(Act::Write, &path(name)), "{name}");
    }
    assert!(once.allow(Act::Make, &path("signed-jobs")));
    let writes = super::Rights {
        image: Some(("lab3/golden".into(), true)),
        ..rights
    };
    assert!(writes.allow(Act::Write, &path("lab3/golden/sda.raw.gz")));
    // Moved away, it would take the images of others along.
    assert!(!writes.allow(Act::Write, &path("lab3")));
    assert!(writes.allow(Act::Make, &path("lab3")));
    assert!(!writes.allow(Act::Make, &path("lab")));
}

#[test]
fn a_token_goes_to_the_own_share_and_takes_no_credentials_place() {
    let job: Id = "20261128-212955-0f3a".parse().unwrap();
    let files = |text: &str, signature: Option<&str>| {
        let mut files = HostFiles {
            text: text.to_owned(),
            signature: signature.map(str::to_owned),
            unsigned: None,
        };
        add_token(&mut files, "http://srv:8080", &job, "abc");
        files
    };
    let with = |text: &str| files(text, None).text;
    let own = "share = \"http://srv:8080/share\"";
    let added = with(own);
    let table: toml::Table = toml::from_str(&added).unwrap();
    let token = table["token"].as_str().unwrap();
    assert_eq!(read_token(token), Some((job.clone(), "abc".into())));
    let signed = files(own, Some("signature"));
    assert_eq!(signed.text, own);
    assert_eq!(signed.unsigned, Some(format!("token = \"{job}.abc\"\n")));
    for other in [
        "share = \"http://srv:80801/share\"",
        "share = \"nfs://srv/x\"",
        "",
        &format!("{own}\nuser = \"u\"\npassword = \"p\"\n"),
        &format!("{own}\ntoken = \"mine\"\n"),
    ] {
        assert_eq!(with(other), other);
    }
}

#[test]
fn a_job_about_a_tree_tells_what_it_reads_and_where_it_adds() {
    let of = |action, keys: &str| {
        let mut job = crate::jobs::fake::job(15, Timestamp::UNIX_EPOCH);
        job.text = format!("version = 1\n{keys}");
        job.action = action;
        job.folder = Some("10.0.2.15".into());
        Rights::of_job(&job, PEER.into())
    };
    let keys = "tree = \"web@1\"\noverrides = [\"layers/base\", \"10.0.2.16\"]\nhooks = [\"hooks/10-x.sh\"]\nsecrets = \"secrets/web.env.age\"\n";
    let deploys = of(ActionName::Deploy, keys);
    let captures = of(ActionName::Capture, keys);
    let restores = of(ActionName::Restore, keys);
    for (act, name, by) in [
        (Act::Read, "trees/web/1.tar.gz", [true, true, false]),
        (Act::Read, "trees/web2/1.tar.gz", [false, false, false]),
        (Act::Write, "trees/web/2.tar.gz.part", [false, true, false]),
        (Act::Write, "trees", [false, false, false]),
        (Act::Make, "trees", [false, true, false]),
        (Act::Read, "layers/base.tar", [true, false, false]),
        (Act::Read, "layers/base/etc/motd", [true, false, false]),
        (Act::Read, "layers/based", [false, false, false]),
        (Act::Write, "layers/base.tar", [false, false, false]),
        (Act::Read, "hooks/10-x.sh", [true, false, false]),
        (Act::Read, "hooks/20-y.sh", [false, false, false]),
        (Act::Read, "secrets/web.env.age", [true, false, false]),
        (Act::Read, "secrets/db.env.age", [false, false, false]),
        (Act::Write, "secrets/web.env.age", [false, false, false]),
        (Act::Read, "10.0.2.16/x", [false, false, false]),
    ] {
        let path = path(name);
        let may = [&deploys, &captures, &restores].map(|rights| rights.allow(act, &path));
        assert_eq!(may, by, "{act:?} {name}");
    }
    // A tree elsewhere is no folder of this share.
    let url = of(ActionName::Deploy, "tree = \"http://x/trees/web\"\n");
    assert!(!url.allow(Act::Read, &path("trees/web")));
}

#[test]
fn a_token_without_a_job_comes_to_an_end() {
    let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
    for (job, fresh) in [
        ("20261129-115959-0f3a", true),
        ("20261128-120000-0f3a", true),
        ("20261128-115959-0f3a", false),
        ("20270101-000000-0f3a", false),
        ("20261399-000000-0f3a", false),
    ] {
        assert_eq!(is_fresh(&job.parse().unwrap(), now), fresh, "{job}");
    }
}

#[test]
fn the_job_tells_the_folders() {
    let of = |image: &str, action, own: Option<&str>| {
        let text = format!("version = 1\n{image}");
        let mut job = crate::jobs::fake::job(15, Timestamp::UNIX_EPOCH);
        job.text = text;
        job.action = action;
        job.folder = own.map(str::to_owned);
        Rights::of_job(&job, PEER.into())
    };
    assert_eq!(of("", ActionName::Backup, Some("10.0.2.15")), rights(None));
    assert_eq!(of("", ActionName::Backup, None).own, "192.0.2.7");
    assert_eq!(
        of(
            "image = \"gold/{ip}/\"",
            ActionName::Restore,
            Some("10.0.2.15")
        ),
        rights(Some(("gold/10.0.2.15", false)))
    );
    assert_eq!(
        of("image = \"g\"", ActionName::BackupAgain, Some("10.0.2.15")),
        rights(Some(("g", true)))
    );
    assert_eq!(
        of("image = \"/\"", ActionName::Restore, Some("10.0.2.15")),
        rights(None)
    );
}

proptest! {
    #[test]
    fn any_token_is_read_without_a_panic(text in "\\PC{0,60}", near in "2026112[0-9]-[0-9]{6}-[0-9a-f]{3,7}\\.[0-9a-f]{0,40}") {
        let _ = read_token(&text);
        if let Some((job, secret)) = read_token(&near) {
            prop_assert_eq!(token_text(&job, &secret), near);
        }
    }

    #[test]
    fn no_path_outside_the_own_folder_is_written(name in "[a-z0-9./]{0,30}") {
        let Ok(path) = RelPath::from_text(&name) else { return Ok(()) };
        if rights(None).allow(Act::Write, &path) {
            prop_assert!(path.as_str() == "10.0.2.15" || path.as_str().starts_with("10.0.2.15/"));
        }
    }
}
