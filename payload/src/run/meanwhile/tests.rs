//! What is refused before the first write of an image that still grows. How it grows, `pitstop`'s own tests have.

use crate::check_in::script::Script;
use crate::run::site::{Ended, MIB, Site, noise};
use pitstop_transport::fetch::fake::FakeServer;
use std::fs;

/// What a machine is told whose image grows, of a disk with so many bytes and such sectors.
fn grows(bytes: usize, sector: u32) -> String {
    format!(
        "{{\"answer\":\"wait\",\"place\":1,\"of\":1,\"ask-ms\":20,\"why\":\"golden is being backed up\",\
         \"grows\":{{\"disk\":\"sda\",\"model\":\"QEMU\",\"serial\":\"GOLDEN\",\"size\":{bytes},\"sector\":{sector},\
         \"will\":\"backup\",\"image\":\"golden/sda.raw.gz\"}}}}"
    )
}

/// Waits for such an image; then the job is withdrawn.
fn waits(site: &Site, more: &str, bytes: usize, sector: u32) -> Ended {
    let grows = grows(bytes, sector);
    let grows = grows.as_str();
    let script = Script::start(&[
        (200, grows),
        (200, grows),
        (200, r#"{"answer":"cancelled","reason":"no disk"}"#),
    ]);
    let share = FakeServer::start();
    share.put("/share/pitstop-share", b"");
    let more = format!("check-in = \"{}\"\n{more}", script.url());
    site.set_on(share.url("/share").as_str(), "restore", &more);
    let ended = site.run();
    // Nothing came of the image: nothing was touched, whether it could be written or not.
    assert_eq!(
        ended.finish.result_line, "pitstop: result cancelled restore: no disk",
        "{}",
        ended.console
    );
    assert!(!script.heard().iter().any(|said| said.contains("written")));
    ended
}

#[test]
fn a_disk_waits_for_the_whole_image_where_only_that_tells_what_is_refused() {
    const NAMED: &str = "image = \"golden\"\n";
    for (more, size, sector, why) in [
        ("grow = true\n", 2 * MIB, 512, "whether it takes grow"),
        ("new-ids = true\n", 2 * MIB, 512, "whether it takes grow"),
        ("keep = [2]\n", 2 * MIB, 512, "which partitions"),
        ("rate-limit = \"1MiB/s\"\n", 2 * MIB, 512, "rate-limit"),
        ("", 4 * MIB, 512, "is smaller than the disk"),
        ("", 2 * MIB, 4096, "has sectors of 512 bytes"),
    ] {
        let content = noise(1, 3 * MIB);
        let site = Site::new();
        let node = site.disk("sda", "QM00001", &content);
        let ended = waits(&site, &format!("{NAMED}{more}"), size, sector);
        let told = ended.console.matches("is written before it is whole: ");
        assert_eq!(told.count(), 1, "{more}: {}", ended.console);
        assert!(ended.console.contains(why), "{more}: {}", ended.console);
        assert!(fs::read(node).unwrap() == content, "{more}");
    }
}

#[test]
fn which_disk_gets_the_image_must_be_certain() {
    let site = Site::with_disk(&noise(1, 3 * MIB));
    let other = site.disk("sdb", "QM00002", &noise(2, 3 * MIB));
    let ended = waits(&site, "image = \"golden\"\n", 2 * MIB, 512);
    let told = "this job is about 2 disks";
    assert!(ended.console.contains(told), "{}", ended.console);
    assert!(fs::read(other).unwrap() == noise(2, 3 * MIB));
    let elsewhere = Site::with_disk(&noise(1, 3 * MIB));
    let ended = waits(&elsewhere, "image = \"lab\"\n", 2 * MIB, 512);
    let told = "it is in another folder";
    assert!(ended.console.contains(told), "{}", ended.console);
}

#[test]
fn a_disk_that_could_be_written_stays_as_it_is_until_something_comes() {
    let content = noise(1, 3 * MIB);
    let site = Site::with_disk(&content);
    let ended = waits(&site, "image = \"golden\"\n", 2 * MIB, 512);
    let told = "is overwritten with what there is of golden/sda.raw.gz";
    assert!(ended.console.contains(told), "{}", ended.console);
    let disk = site.fake.machine().dev.join("sda");
    assert!(fs::read(disk).unwrap() == content);
    // A crash could not have told whether anything had come.
    let policies = site.policies.lock().unwrap();
    let told = policies.iter().filter_map(|policy| policy.partly.clone());
    let told: Vec<String> = told.collect();
    assert!(
        matches!(&told[..], [told] if told.contains("may have a part of")),
        "{told:?}"
    );
    assert_eq!(policies.last().unwrap().partly, None);
}

#[test]
fn a_share_that_is_no_http_server_is_waited_for() {
    let site = Site::with_disk(&noise(1, 3 * MIB));
    let grows = grows(2 * MIB, 512);
    let script = Script::start(&[
        (200, &grows),
        (200, r#"{"answer":"cancelled","reason":"no disk"}"#),
    ]);
    let more = format!("check-in = \"{}\"\nimage = \"golden\"\n", script.url());
    site.set("restore", &more);
    let ended = site.run();
    let told = "is written before it is whole: its share is not reached over HTTP";
    assert!(ended.console.contains(told), "{}", ended.console);
    assert!(
        ended
            .console
            .contains("this try has written to no disk: no disk")
    );
}

#[test]
fn who_was_started_again_since_it_wrote_says_so_however_the_job_ends() {
    for (answer, parts) in [
        (
            r#"{"answer":"cancelled","reason":"no disk","written":true}"#,
            ["restore: no disk; and", "an earlier try has written a part"],
        ),
        (
            r#"{"answer":"go","beat-ms":50,"written":true}"#,
            ["no image", "an earlier try has written a part"],
        ),
    ] {
        let site = Site::with_disk(&noise(1, MIB));
        let script = Script::start(&[(200, answer), (200, r#"{"answer":"noted"}"#)]);
        site.set("restore", &format!("check-in = \"{}\"\n", script.url()));
        let ended = site.run();
        let line = &ended.finish.result_line;
        assert!(line.contains("result failed restore"), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(!ended.console.contains("to no disk"), "{}", ended.console);
    }
}
