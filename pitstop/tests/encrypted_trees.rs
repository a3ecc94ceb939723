//! Encrypted trees: files, and versions on the share.

mod common;
mod encrypted_common;

use common::{everything_in, fails, run, text};
use encrypted_common::{Lab, tool};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_version_of_a_tree_is_encrypted_too() {
    let lab = Lab::new();
    let (key, root, system) = (lab.at("lab.txt"), lab.at("root"), lab.at("system"));
    fs::create_dir_all(lab.at("system/etc")).unwrap();
    fs::create_dir_all(lab.at("root/share")).unwrap();
    fs::write(lab.at("system/etc/motd"), "hello\n").unwrap();
    let tree = |words: &[&str]| run(&[&["tree"], words, &["--root", &root]].concat());
    let recipient = lab.recipient("lab.txt");
    let capture = |name: &str| tree(&["capture", &system, name, "--recipient", &recipient]);
    for name in ["web.age", "web@1.age"] {
        let error = fails(&capture(name));
        assert!(error.contains("name the version without it"), "{error}");
    }
    assert!(!Path::new(&lab.at("root/share/trees")).exists());
    text(&capture("web@1"));
    let names = everything_in(Path::new(&lab.at("root/share/trees/web")));
    assert_eq!(names, ["1.tar.gz.age", "1.toml", "current"]);
    let image = lab.at("root/share/trees/web/1.tar.gz.age");
    let packed = tool(Command::new("age").args(["-d", "-i", &key, &image]));
    fs::write(lab.at("web.tar.gz"), packed).unwrap();
    tool(Command::new("tar").args(["-xzf", &lab.at("web.tar.gz"), "-C", &root]));
    assert_eq!(lab.read("root/etc/motd"), b"hello\n");
    let with_key = ["--identity-file", &key];
    text(&tree(&[&["verify", "web"], &with_key[..]].concat()));
    let file = tree(&[&["cat", "web@1", "/etc/motd"], &with_key[..]].concat());
    assert_eq!(text(&file), "hello\n");
    let error = fails(&tree(&["cat", "web", "/etc/motd"]));
    assert!(error.contains("say --identity-file FILE"), "{error}");
    // Others would get what is in it.
    let unpacked = lab.at("unpacked");
    let shared = ["extract", "web", &unpacked, "--distribute", "swarm"];
    let error = fails(&tree(&[&shared[..], &with_key].concat()));
    assert!(
        error.contains("does not go with --identity-file"),
        "{error}"
    );
    assert!(!Path::new(&unpacked).exists());
    // Nor does working in it: the next version is encrypted too, or somebody says that it is not to be.
    let refused = [&["shell", "web", "--work", "/nowhere"], &with_key[..]].concat();
    let error = fails(&tree(&refused));
    assert!(
        error.contains("say for whom it is with --recipient"),
        "{error}"
    );
    // Nothing takes the place of a version, encrypted or not.
    let plain = tree(&["capture", &system, "web@1"]);
    assert!(fails(&plain).contains("never replaced"));
    text(&tree(&["capture", &system, "web@2"]));
    assert!(Path::new(&lab.at("root/share/trees/web/2.tar.gz")).exists());
}

#[test]
fn a_tree_in_a_file_is_encrypted_too() {
    let lab = Lab::new();
    let (key, image, root) = (lab.at("lab.txt"), lab.at("web.tar.gz.age"), lab.at("root"));
    fs::create_dir_all(lab.at("system/etc")).unwrap();
    fs::create_dir_all(lab.at("root/share")).unwrap();
    fs::write(lab.at("system/etc/motd"), "hello\n").unwrap();
    let tree = |words: &[&str]| run(&[&["tree"], words, &["--root", &root]].concat());
    let recipient = lab.recipient("lab.txt");
    let system = lab.at("system");
    text(&tree(&[
        "capture",
        &system,
        &image,
        "--recipient",
        &recipient,
    ]));
    let packed = tool(Command::new("age").args(["-d", "-i", &key, &image]));
    fs::write(lab.at("web.tar.gz"), packed).unwrap();
    tool(Command::new("tar").args(["-xzf", &lab.at("web.tar.gz"), "-C", &root]));
    assert_eq!(
        fs::read_to_string(lab.at("root/etc/motd")).unwrap(),
        "hello\n"
    );

    let with_key = ["--identity-file", &key];
    text(&tree(&[&["verify", &image], &with_key[..]].concat()));
    let file = text(&tree(
        &[&["cat", &image, "/etc/motd"], &with_key[..]].concat(),
    ));
    assert_eq!(file, "hello\n");
    text(&tree(
        &[&["extract", &image, &lab.at("back")], &with_key[..]].concat(),
    ));
    // Told before it is unpacked, and so before somebody works in it.
    let nowhere = ["--work", &lab.at("nowhere"), "--identity-file", &key];
    for (to, why) in [
        ("next.tar.gz.age", "nobody is named who can read it"),
        ("web.tar.gz", "is there already"),
    ] {
        let to = lab.at(to);
        let error = fails(&tree(
            &[&["shell", &image, "--to", &to], &nowhere[..]].concat(),
        ));
        assert!(error.contains(why), "{error}");
    }
    // A pipe has nothing beside it.
    let piped = tree(&["capture", &system, "/dev/stdout"]);
    assert!(piped.status.success(), "{piped:?}");
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(!said.contains("to sign it"), "{said}");

    let error = fails(&tree(&["cat", &image, "/etc/motd"]));
    assert!(error.contains("say --identity-file FILE"), "{error}");
    let target = lab.target();
    let error = fails(&tree(&["deploy", &image, &target, "--yes"]));
    assert!(error.contains("say --identity-file FILE"), "{error}");
    lab.is_untouched();
}
