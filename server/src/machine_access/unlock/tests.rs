use super::*;

fn is_of(text: &str, image: &str) -> bool {
    let said: toml::Table = toml::from_str(text).unwrap();
    let action = said["action"].as_str().unwrap().parse().unwrap();
    let rights = Rights::of_text(text, "10.0.2.15".into());
    is_of_job(&said, action, &rights, image)
}

#[test]
fn a_machine_has_the_keys_of_what_its_job_names_alone() {
    let restore = "action = \"restore\"\nimage = \"lab/golden\"\n";
    let own = "action = \"restore\"\n";
    let tree = "action = \"deploy\"\ntree = \"web\"\n";
    let version = "action = \"run\"\ntree = \"web@2\"\n";
    let secrets = "action = \"deploy\"\ntree = \"web\"\nsecrets = \"secrets/web.env.age\"\n";
    let elsewhere = "action = \"deploy\"\ntree = \"web\"\nsecrets = \"10.0.2.16/sda.raw.gz.age\"\n";
    let out =
        "action = \"update\"\ntree = \"web\"\nsecrets = \"secrets/../10.0.2.16/sda.raw.gz.age\"\n";
    // It runs no hooks.
    let runs = "action = \"run\"\ntree = \"web\"\nsecrets = \"secrets/web.env.age\"\n";
    let url = "action = \"update\"\ntree = \"https://files/web.tar.gz.age\"\n";
    for (job, image, allowed) in [
        (restore, "lab/golden/sda.raw.gz.age", true),
        (restore, "10.0.2.15/sda.raw.gz.age", false),
        (restore, "lab/golden/sda.raw.gz", false),
        (restore, "lab/golden/sda.raw.gz.age.old", false),
        (restore, "lab/golden/x/sda.raw.gz.age", false),
        (restore, "lab/golden2/sda.raw.gz.age", false),
        (restore, "lab/golden/../other/sda.raw.gz.age", false),
        (restore, "lab/golden//x.age", false),
        (own, "10.0.2.15/sda.raw.gz.age", true),
        (own, "10.0.2.16/sda.raw.gz.age", false),
        (own, "10.0.2.155/sda.raw.gz.age", false),
        (tree, "trees/web/1.tar.gz.age", true),
        (tree, "trees/web/1.tar.gz", false),
        (tree, "trees/web2/1.tar.gz.age", false),
        (tree, "trees/web/x/1.tar.gz.age", false),
        (tree, "trees/web/../db/1.tar.gz.age", false),
        (tree, "trees/web/.tar.gz.age", false),
        (tree, "trees/web/a\\b.tar.gz.age", false),
        (tree, "trees/web/1\n.tar.gz.age", false),
        (tree, "10.0.2.15/sda.raw.gz.age", false),
        (version, "trees/web/2.tar.gz.age", true),
        (version, "trees/web/1.tar.gz.age", false),
        (url, "https://files/web.tar.gz.age", true),
        (url, "https://files/db.tar.gz.age", false),
        (url, "trees/web/1.tar.gz.age", false),
        (secrets, "secrets/web.env.age", true),
        (secrets, "secrets/db.env.age", false),
        (secrets, "trees/web/1.tar.gz.age", true),
        (elsewhere, "10.0.2.16/sda.raw.gz.age", false),
        (out, "secrets/../10.0.2.16/sda.raw.gz.age", false),
        (runs, "secrets/web.env.age", false),
        ("action = \"backup\"\n", "10.0.2.15/sda.raw.gz.age", false),
        (
            "action = \"capture\"\ntree = \"web\"\n",
            "trees/web/1.tar.gz.age",
            false,
        ),
    ] {
        assert_eq!(is_of(job, image), allowed, "{job} {image}");
    }
}

#[test]
fn the_passphrase_of_a_deploy_or_capture_is_the_one_file_that_its_job_names() {
    let own = "action = \"deploy\"\ntree = \"web\"\nluks-key = \"luks.key.age\"\n";
    let lab = "action = \"deploy\"\ntree = \"web\"\nimage = \"lab\"\nluks-key = \"keys/a.age\"\n";
    let outside = "action = \"deploy\"\ntree = \"web\"\nluks-key = \"../x/luks.key.age\"\n";
    for (job, image, allowed) in [
        (own, "10.0.2.15/luks.key.age", true),
        (own, "10.0.2.15/other.key.age", false),
        (own, "10.0.2.16/luks.key.age", false),
        (own, "luks.key.age", false),
        (own, "10.0.2.15/sda.raw.gz.age", false),
        // What it deploys it may have, too.
        (own, "trees/web/1.tar.gz.age", true),
        (lab, "lab/keys/a.age", true),
        (lab, "lab/a.age", false),
        (lab, "10.0.2.15/keys/a.age", false),
        (outside, "10.0.2.15/../x/luks.key.age", false),
        (
            "action = \"capture\"\ntree = \"web\"\nluks-key = \"luks.key.age\"\n",
            "10.0.2.15/luks.key.age",
            true,
        ),
        (
            "action = \"restore\"\nimage = \"lab\"\nluks-key = \"keys/a.age\"\n",
            "lab/keys/a.age",
            false,
        ),
        (
            "action = \"deploy\"\ntree = \"web\"\nluks-key = \"luks.key\"\n",
            "10.0.2.15/luks.key",
            false,
        ),
    ] {
        assert_eq!(is_of(job, image), allowed, "{job} {image}");
    }
}

#[test]
fn who_says_to_be_another_machine_has_its_own_folder() {
    let locked = Locked {
        version: pitstop_protocol::unlock::VERSION,
        job: "20261128-212955-0f3a".parse().unwrap(),
        address: IpAddr::from([10, 0, 2, 16]),
        image: "10.0.2.16/sda.raw.gz.age".into(),
        head: "".into(),
    };
    // One of the documentation's (RFC 5737), which is nobody's.
    let peer = IpAddr::from([192, 0, 2, 15]);
    assert_eq!(own_folder(&locked, peer), "192.0.2.15");
    let here = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(own_folder(&locked, here), "10.0.2.16");
}

#[test]
fn no_log_has_the_password_of_an_image() {
    for (image, told) in [
        ("10.0.2.15/sda.raw.gz.age", "10.0.2.15/sda.raw.gz.age"),
        (
            "https://ann:s3cret@files/web.tar.gz.age",
            "https://files/web.tar.gz.age",
        ),
        (
            "https://s3/web.tar.gz.age?X-Amz-Signature=s3cret",
            "https://s3/web.tar.gz.age?…",
        ),
    ] {
        assert_eq!(shown(image), told);
    }
}

#[test]
fn a_file_of_keys_is_its_owners_and_nothing_of_it_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    // Made by age-keygen; it opens nothing.
    let key = "AGE-SECRET-KEY-12NF5JKY0XRZGR2T78WTTK7F32G60DJQPPCMG5J5XXZXX3NUGJ0ESL0GGRD";
    let open = |text: &str, mode: u32, tls: bool, access: MachineAccess| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let options = Options {
            identities: Some(file.clone()),
            unlock_elsewhere: false,
        };
        let opened = options.open(tls, access);
        opened.map(drop).map_err(|error| format!("{error:#}"))
    };
    let token = MachineAccess::Token;
    open(&format!("# lab\n{key}\n"), 0o600, true, token).unwrap();
    let many = format!("{key}\n").repeat(MOST_IDENTITIES + 1);
    for (text, mode, tls, access, why) in [
        (key, 0o600, false, token, "wants --tls"),
        (
            key,
            0o600,
            true,
            MachineAccess::Open,
            "wants --machine-access token",
        ),
        (key, 0o640, true, token, "chmod 600"),
        (
            "rubbish s3cret\n",
            0o600,
            true,
            token,
            "line 1 is no secret key",
        ),
        (&key[..40], 0o600, true, token, "line 1 is no secret key"),
        ("", 0o600, true, token, "there is no key"),
        (many.as_str(), 0o600, true, token, "the most"),
    ] {
        let error = open(text, mode, tls, access).unwrap_err();
        assert!(error.contains(why), "{why:?} is not in {error:?}");
        assert!(
            !error.contains("s3cret") && !error.contains("SECRET-KEY-12"),
            "{error}"
        );
    }
}
