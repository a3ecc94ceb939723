//! Folders that are replaced while the server runs.

mod common;

use common::{Server, run};
use std::fs;

#[test]
fn what_is_under_the_roots_name_is_served_whatever_was_there_before() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("root");
    fs::create_dir(&root).unwrap();
    let server = Server::start_in(&root, &[]);
    assert_eq!(server.put("/share/x", b"old").status, 201);

    // Moved away: nothing is made anew, for what should be there may be a disk that is not mounted.
    let old = lab.path().join("old");
    fs::rename(&root, &old).unwrap();
    let answer = server.get("/share/x");
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains(&format!("{}/share", root.display())),
        "{}",
        answer.text()
    );
    assert!(!root.exists());

    for folder in ["hosts", "share", "boot"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    assert_eq!(server.get("/share/x").status, 404);
    assert_eq!(server.put("/share/y", b"new").status, 201);
    assert!(root.join("share/y").is_file() && !old.join("share/y").exists());
    let at = root.to_str().unwrap();
    let url = format!("http://{}", server.http);
    let set = run(&[
        "host",
        "set",
        "10.0.2.15",
        "backup",
        "--root",
        at,
        "--url",
        &url,
    ]);
    assert!(set.status.success(), "{set:?}");
    assert_eq!(server.get("/hosts/0A00020F.toml").status, 200);
    assert!(
        server
            .get("/pxelinux.cfg/0A00020F")
            .text()
            .contains("0A00020F.toml")
    );
    let page = server.get("/journal").text();
    assert!(page.contains("they are opened anew"), "{page}");
    assert!(
        page.contains("nothing can be served: looking for the folder"),
        "{page}"
    );
}
