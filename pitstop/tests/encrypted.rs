//! Encrypted images from end to end. age itself reads what is written here, and writes what is read here.

mod common;
mod encrypted_common;

use common::{Server, fails, run, text};
use encrypted_common::{Lab, tool};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn an_encrypted_image_is_ages_outside_and_an_image_inside() {
    let lab = Lab::new();
    let (key, image, disk) = (lab.at("lab.txt"), lab.at("sda.raw.gz.age"), lab.at("disk"));
    let recipient = lab.recipient("lab.txt");
    fs::write(
        lab.at("keys"),
        format!("# a safe\n{}\n", lab.recipient("other.txt")),
    )
    .unwrap();
    let more = ["--recipients-file", &lab.at("keys")];
    text(&run(&[
        &["backup", &disk, &image, "--recipient", &recipient],
        &more[..],
    ]
    .concat()));
    assert!(Path::new(&lab.at("sda.raw.gz.age.toml")).exists());

    // As somebody would who has no Pitstop, with either key.
    for identity in ["lab.txt", "other.txt"] {
        let packed = tool(Command::new("age").args(["-d", "-i", &lab.at(identity), &image]));
        fs::write(lab.at("plain.gz"), packed).unwrap();
        assert!(tool(Command::new("zcat").arg(lab.at("plain.gz"))) == lab.read("disk"));
    }

    text(&run(&["verify", &image, "--identity", &key]));
    let shown = text(&run(&["inspect", &image, "--json", "--identity", &key]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["raw-size"], lab.read("disk").len());
    text(&run(&[
        "restore",
        &image,
        &lab.target(),
        "--identity",
        &key,
        "--verify",
    ]));
    lab.is_restored();

    // What somebody else has packed and encrypted.
    let pack = [
        "-r",
        &recipient,
        "-o",
        &lab.at("foreign.gz.age"),
        &lab.at("plain.gz"),
    ];
    tool(Command::new("age").args(pack));
    let foreign = lab.at("foreign.gz.age");
    text(&run(&[
        "restore",
        &foreign,
        &lab.target(),
        "--identity",
        &key,
    ]));
    lab.is_restored();

    // By a server: any place is read alone.
    let server = Server::start();
    fs::copy(&image, server.path("share/sda.raw.gz.age")).unwrap();
    let url = format!("http://{}/share/sda.raw.gz.age", server.http);
    text(&run(&[
        "restore",
        &url,
        &lab.target(),
        "--identity",
        &key,
        "--delta",
    ]));
    lab.is_restored();
    let copy = format!("http://{}/share/copy.raw.gz.age", server.http);
    text(&run(&["backup", &disk, &copy, "--recipient", &recipient]));
    text(&run(&["verify", &copy, "--identity", &key]));
}

#[test]
fn what_cannot_be_read_is_refused_before_the_first_write_with_what_to_do() {
    let lab = Lab::new();
    let (key, image, disk) = (lab.at("lab.txt"), lab.at("sda.raw.gz.age"), lab.at("disk"));
    let (other, plain) = (lab.at("other.txt"), lab.at("sda.raw.gz"));
    let recipient = lab.recipient("lab.txt");
    let refused = |words: &[&str], why: &str| {
        let error = fails(&run(words));
        assert!(error.contains(why), "{words:?}: {error}");
    };
    refused(
        &["backup", &disk, &image],
        "nobody is named who can read it",
    );
    refused(
        &["backup", &disk, &plain, "--recipient", &recipient],
        "has to end in .age",
    );
    refused(
        &["backup", &disk, &image, "--recipient", "age1x"],
        "no public key of age's",
    );
    refused(
        &["backup", &disk, &image, "--recipients-file", &key],
        "line 3 is no public key of age's",
    );
    // A variable that a script did not set is nobody who can read it.
    let unset = ["--recipient", ""];
    let backup = ["backup", &disk, &image, "--recipient", &recipient];
    refused(
        &[&backup[..], &unset].concat(),
        "--recipient: there is no key in it",
    );
    refused(
        &[
            "backup",
            &disk,
            "s3://b/sda.raw.gz.age?endpoint=http://[::1]:9",
        ],
        "nobody is named who can read it",
    );
    assert!(!Path::new(&image).exists());
    text(&run(&backup));
    let target = lab.target();
    refused(
        &["restore", &image, &target],
        "is encrypted by age: say --identity FILE",
    );
    refused(
        &["restore", &image, &target, "--identity", &other],
        "it is for other keys",
    );
    refused(
        &["restore", &image, &target, "--identity", &disk],
        "--identity",
    );
    refused(
        &["restore", &image, &target, "--identity", "/dev/zero"],
        "that is no file of keys",
    );
    let swarm = [
        "restore",
        &image,
        &target,
        "--identity",
        &key,
        "--distribute",
        "swarm",
    ];
    refused(&swarm, "goes with neither --distribute nor --mirror");
    refused(
        &["shrink", &plain, &lab.at("x.raw.gz.age")],
        "a smaller image is plain",
    );
    for words in [
        &["convert", &image, &lab.at("x.raw.gz")][..],
        &["shrink", &image, &lab.at("x.raw.gz")],
        &["mount", &image, lab.folder.path().to_str().unwrap()],
    ] {
        refused(words, "is encrypted by age");
    }
    lab.is_untouched();
}

#[test]
fn what_is_not_whole_and_what_is_no_image_is_refused_before_the_first_write() {
    let lab = Lab::new();
    let (key, image, disk) = (lab.at("lab.txt"), lab.at("sda.raw.gz.age"), lab.at("disk"));
    let recipient = lab.recipient("lab.txt");
    text(&run(&["backup", &disk, &image, "--recipient", &recipient]));
    let target = lab.target();
    let refused = |words: &[&str], why: &str| {
        let error = fails(&run(words));
        assert!(error.contains(why), "{words:?}: {error}");
    };
    // A server's error page: alone, and encrypted by somebody who did not look. Neither is a raw image of a disk.
    let page = "<html>404</html>".repeat(64);
    fs::write(lab.at("page"), &page).unwrap();
    fs::write(lab.at("page.raw.gz.age"), &page).unwrap();
    let (page, packed) = (lab.at("page"), lab.at("packed.raw.gz.age"));
    tool(Command::new("age").args(["-r", &recipient, "-o", &packed, &page]));
    for (page, why) in [
        (lab.at("page.raw.gz.age"), "is not encrypted by age"),
        (packed, "is not a gzip file, whatever its name says"),
    ] {
        refused(&["restore", &page, &target, "--identity", &key], why);
    }

    // Cut short, longer, and a byte that is another where the index is.
    let whole = lab.read("sda.raw.gz.age");
    let mut changed = whole.clone();
    let last = changed.len() - 100;
    changed[last] ^= 1;
    for bytes in [
        &whole[..whole.len() - 1],
        &[&whole[..], b"x"].concat(),
        &changed,
    ] {
        fs::write(&image, bytes).unwrap();
        refused(
            &["restore", &image, &target, "--identity", &key],
            "is not whole",
        );
    }
    let armored = tool(Command::new("age").args(["-a", "-r", &recipient, &disk]));
    fs::write(&image, armored).unwrap();
    refused(
        &["restore", &image, &target, "--identity", &key],
        "it is armored",
    );
    lab.is_untouched();
}

#[test]
fn whoever_knows_the_public_key_can_replace_an_image_but_not_a_signed_one() {
    let lab = Lab::new();
    let (key, image, disk) = (lab.at("lab.txt"), lab.at("sda.raw.gz.age"), lab.at("disk"));
    let recipient = lab.recipient("lab.txt");
    text(&run(&["key", "new", &lab.at("admin"), "--no-password"]));
    text(&run(&["backup", &disk, &image, "--recipient", &recipient]));
    tool(Command::new("minisign").args([
        "-S",
        "-W",
        "-s",
        &lab.at("admin.sec"),
        "-m",
        &lab.at("sda.raw.gz.age.toml"),
    ]));
    let by = lab.at("admin.pub");
    let restore = |target: &str| {
        run(&[
            "restore",
            &image,
            target,
            "--identity",
            &key,
            "--signed-by",
            &by,
        ])
    };
    text(&restore(&lab.target()));
    lab.is_restored();

    let mut evil = lab.read("disk");
    evil[0] ^= 1;
    fs::write(lab.at("evil"), evil).unwrap();
    text(&run(&[
        "backup",
        &lab.at("evil"),
        &lab.at("evil.age"),
        "--recipient",
        &recipient,
    ]));
    fs::copy(lab.at("evil.age"), &image).unwrap();
    let target = lab.target();
    // Encryption alone does not tell.
    let error = fails(&restore(&target));
    assert!(error.contains("it is of another image"), "{error}");
    lab.is_untouched();
    text(&run(&["verify", &image, "--identity", &key]));
}
