//! The share, as a client sees it that knows HTTP and nothing of the server.

mod common;

use common::{Answer, Server, everything_in, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pitstop_transport::fetch::{HttpClient, Settings};
use pitstop_transport::share::{HttpShare, Share};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

#[test]
fn ranges_and_conditions_are_honoured() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let put = server.put("/share/10.0.2.15/sda.raw.gz", &bytes);
    assert_eq!(put.status, 201, "{put:?}");
    let tag = put.header("etag").unwrap().to_owned();

    let path = "/share/10.0.2.15/sda.raw.gz";
    let whole = server.get(path);
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(whole.header("etag"), Some(tag.as_str()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let modified = whole.header("last-modified").unwrap().to_owned();

    let part = server.request("GET", path, "Range: bytes=1000-1999\r\n", b"");
    assert_eq!((part.status, &part.body[..]), (206, &bytes[1000..2000]));
    assert_eq!(part.header("content-range"), Some("bytes 1000-1999/400000"));
    let end = server.request("GET", path, "Range: bytes=-7\r\n", b"");
    assert_eq!((end.status, &end.body[..]), (206, &bytes[399_993..]));
    let beyond = server.request("GET", path, "Range: bytes=400000-\r\n", b"");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some("bytes */400000"));

    for (condition, status) in [
        (format!("If-Range: {tag}\r\n"), 206),
        ("If-Range: \"other\"\r\n".into(), 200),
        (format!("If-Match: {tag}\r\n"), 206),
        ("If-Match: \"other\"\r\n".into(), 412),
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
    ] {
        let headers = format!("Range: bytes=0-0\r\n{condition}");
        assert_eq!(
            server.request("GET", path, &headers, b"").status,
            status,
            "{condition}"
        );
    }
    let head = server.request("HEAD", path, "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("400000"));
    assert_eq!(server.request("HEAD", "/share/none", "", b"").status, 404);
}

#[test]
fn files_are_written_moved_listed_and_deleted() {
    let server = Server::start();
    assert_eq!(server.put("/share/a/b/x.part", b"one").status, 201);
    assert_eq!(server.put("/share/a/b/x.part", b"two").status, 204);
    let to = format!("Destination: http://{}/share/a/b/x\r\n", server.http);
    assert_eq!(
        server.request("MOVE", "/share/a/b/x.part", &to, b"").status,
        201
    );
    assert_eq!(server.put("/share/a/b/x.part", b"three").status, 201);
    let careful = format!("{to}Overwrite: F\r\n");
    assert_eq!(
        server
            .request("MOVE", "/share/a/b/x.part", &careful, b"")
            .status,
        412
    );
    assert_eq!(server.get("/share/a/b/x").body, b"two");
    assert_eq!(
        server.request("MOVE", "/share/a/b/x.part", &to, b"").status,
        204
    );
    assert_eq!(server.get("/share/a/b/x").body, b"three");
    assert_eq!(
        server.request("MOVE", "/share/a/b/none", &to, b"").status,
        404
    );
    let nowhere = "Destination: /share/c/x\r\n";
    assert_eq!(
        server.request("MOVE", "/share/a/b/x", nowhere, b"").status,
        409
    );

    assert_eq!(server.request("MKCOL", "/share/c", "", b"").status, 201);
    assert_eq!(server.request("MKCOL", "/share/c", "", b"").status, 405);
    assert_eq!(server.request("MKCOL", "/share/d/e", "", b"").status, 409);
    let json = server.request("GET", "/share/a/b/", "Accept: application/json\r\n", b"");
    let entries: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(
        (&entries[0]["name"], &entries[0]["size"]),
        (&"x".into(), &5.into())
    );
    let page = server.get("/share/");
    assert!(
        page.text().contains("<a href=\"./a/\">a/</a>"),
        "{}",
        page.text()
    );
    assert_eq!(server.get("/share").header("location"), Some("/share/"));

    assert_eq!(server.request("DELETE", "/share/a", "", b"").status, 409);
    assert_eq!(
        server.request("DELETE", "/share/a/b/x", "", b"").status,
        204
    );
    assert_eq!(
        server.request("DELETE", "/share/a/b/x", "", b"").status,
        404
    );
    assert_eq!(server.request("DELETE", "/share/a/b", "", b"").status, 204);
    assert_eq!(server.request("DELETE", "/share/", "", b"").status, 403);
    let marker = "/share/pitstop-share";
    assert_eq!(server.request("DELETE", marker, "", b"").status, 403);
    let away = "Destination: /share/c/marker\r\n";
    assert_eq!(server.request("MOVE", marker, away, b"").status, 403);
    assert_eq!(server.get(marker).status, 200);
    let other = server.request("PROPFIND", "/share/", "", b"");
    assert_eq!(other.status, 405);
    assert!(other.header("allow").unwrap().contains("MOVE"));
    assert_eq!(server.put("/share/c", b"").status, 409);
    assert_eq!(server.put("/share/pitstop-share/below", b"").status, 409);
    assert_eq!(server.put("/boot/vmlinuz", b"").status, 405);
}

#[test]
fn half_an_upload_is_never_seen_and_leaves_nothing() {
    let server = Server::start();
    server.put("/share/ip/sda.raw.gz", b"the old image");
    let begin = |path: &str, framing: &str, body: &[u8]| {
        let mut stream = server.connect();
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        stream
    };
    let counted = begin(
        "/share/ip/sda.raw.gz",
        "Content-Length: 1000000",
        &vec![7; 500_000],
    );
    let chunked = begin(
        "/share/new/x",
        "Transfer-Encoding: chunked",
        b"5\r\nhello\r\n",
    );
    wait_until("the folder of the upload", || {
        server.path("share/new").exists()
    });
    assert_eq!(server.get("/share/ip/sda.raw.gz").body, b"the old image");
    assert_eq!(everything_in(&server.path("share/ip")), ["sda.raw.gz"]);
    assert_eq!(everything_in(&server.path("share/new")), [""; 0]);
    drop((counted, chunked));
    wait_until("the folder of the upload to go", || {
        !server.path("share/new").exists()
    });
    assert_eq!(server.get("/share/ip/sda.raw.gz").body, b"the old image");

    // A chunk that is cut short and then ended is as broken as one that is not ended.
    let broken = begin(
        "/share/ip/sda.raw.gz",
        "Transfer-Encoding: chunked",
        b"5\r\nhel0\r\n\r\n",
    );
    assert_eq!(Answer::read(broken).status, 400);
    assert_eq!(server.get("/share/ip/sda.raw.gz").body, b"the old image");
}

#[test]
fn a_server_that_is_killed_in_an_upload_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(root.path(), &[]);
    server.put("/share/ip/x", b"old");
    let mut stream = server.connect();
    write!(
        stream,
        "PUT /share/ip/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nnew"
    )
    .unwrap();
    // An answer to another request shows that the server is at it.
    server.get("/share/ip/x");
    kill(Pid::from_raw(server.pid()), Signal::SIGKILL).unwrap();
    assert_eq!(server.wait(), None);
    let server = Server::start_in(root.path(), &[]);
    assert_eq!(server.get("/share/ip/x").body, b"old");
    assert_eq!(everything_in(&server.path("share/ip")), ["x"]);
}

#[test]
fn sigterm_ends_it_in_an_orderly_way() {
    // It waits for ten seconds and no longer: on a busy computer the rest may come too late.
    assert!((0..5).any(|_| is_finished_in_time()), "nothing is finished");
}

fn is_finished_in_time() -> bool {
    let mut server = Server::start();
    let mut stream = server.connect();
    write!(
        stream,
        "PUT /share/new/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 6\r\n\r\nabc"
    )
    .unwrap();
    wait_until("the upload to begin", || server.path("share/new").exists());
    let told = Instant::now();
    kill(Pid::from_raw(server.pid()), Signal::SIGTERM).unwrap();
    wait_until("the listener to close", || {
        std::net::TcpStream::connect(server.http).is_err()
    });
    // What is under way is finished.
    let sent = stream.write_all(b"def");
    assert_eq!(server.wait(), Some(0));
    if told.elapsed() > Duration::from_secs(8) {
        return false;
    }
    sent.unwrap();
    assert_eq!(Answer::read(stream).status, 201);
    assert_eq!(fs::read(server.path("share/new/x")).unwrap(), b"abcdef");
    true
}

#[test]
fn no_path_leaves_the_root() {
    let server = Server::start();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    fs::write(server.path("hosts/0A00020F.toml"), "secret").unwrap();
    fs::create_dir(server.path("share/in")).unwrap();
    fs::write(server.path("share/in/x"), "inside").unwrap();
    symlink("in/x", server.path("share/link")).unwrap();
    for folder in ["share", "hosts", "boot"] {
        symlink(outside.path(), server.path(folder).join("out")).unwrap();
        symlink("../../hosts", server.path(folder).join("up")).unwrap();
        symlink(
            outside.path().join("secret"),
            server.path(folder).join("file"),
        )
        .unwrap();
    }
    assert_eq!(server.get("/share/link").body, b"inside");
    for path in [
        "/share/../hosts/0A00020F.toml",
        "/share/%2e%2e/hosts/0A00020F.toml",
        "/share/in/..%2f..%2fhosts%2f0A00020F.toml",
        "/share/..%5chosts%5c0A00020F.toml",
        "/share/%00",
        "/share/out/secret",
        "/share/up/0A00020F.toml",
        "/share/file",
        "/hosts/out/secret",
        "/hosts/file",
        "/boot/out/secret",
        "/boot/file",
        "/boot/../hosts/0A00020F.toml",
        "/../../etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
    ] {
        for method in ["GET", "HEAD", "PUT", "MOVE", "DELETE"] {
            if path.ends_with("/file") && matches!(method, "MOVE" | "DELETE") {
                continue;
            }
            let answer = server.request(method, path, "Destination: /share/gone\r\n", b"x");
            assert!(
                (400..500).contains(&answer.status),
                "{method} {path}: {answer:?}"
            );
            assert!(!answer.text().contains("secret\n"), "{method} {path}");
            assert_ne!(answer.body, b"secret", "{method} {path}");
        }
    }
    for destination in ["/share/out/x", "/share/../x", "/hosts/x", "/share/up/x"] {
        let to = format!("Destination: {destination}\r\n");
        let answer = server.request("MOVE", "/share/in/x", &to, b"");
        assert!(
            (400..500).contains(&answer.status),
            "{destination}: {answer:?}"
        );
    }
    // A symlink itself is a name on the share; what it leads to is not.
    assert_eq!(server.request("DELETE", "/share/file", "", b"").status, 204);
    assert_eq!(server.request("DELETE", "/share/out", "", b"").status, 204);
    assert_eq!(everything_in(outside.path()), ["secret"]);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(
        fs::read(server.path("hosts/0A00020F.toml")).unwrap(),
        b"secret"
    );
}

#[test]
fn many_writers_of_one_log_lose_no_line() {
    const WRITERS: usize = 8;
    const LINES: usize = 12;
    let server = Server::start();
    let base = url::Url::parse(&format!("http://{}/share", server.http)).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let base = &base;
            scope.spawn(move || {
                let client = HttpClient::new(Settings::default()).unwrap();
                let share = HttpShare::new(base, &client);
                for line in 0..LINES {
                    share
                        .append("maintenance.log", &format!("{writer} {line}\n"))
                        .unwrap();
                }
            });
        }
    });
    let log = fs::read_to_string(server.path("share/maintenance.log")).unwrap();
    for writer in 0..WRITERS {
        let mine: Vec<_> = log
            .lines()
            .filter(|l| l.starts_with(&format!("{writer} ")))
            .collect();
        let expected: Vec<_> = (0..LINES).map(|line| format!("{writer} {line}")).collect();
        assert_eq!(mine, expected);
    }
    assert_eq!(log.lines().count(), WRITERS * LINES);
}

#[test]
fn of_two_conditional_writers_one_wins() {
    let server = Server::start();
    assert_eq!(
        server
            .request("PUT", "/share/x", "If-Match: *\r\n", b"no")
            .status,
        412
    );
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let server = &server;
        let writers: Vec<_> = (0..16)
            .map(|i| {
                scope.spawn(move || {
                    server
                        .request("PUT", "/share/x", "If-None-Match: *\r\n", &[i])
                        .status
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(
        statuses.iter().filter(|&&status| status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|&&status| status == 412).count(),
        15,
        "{statuses:?}"
    );
}

#[test]
fn a_part_grows_segment_by_segment_and_only_for_who_knows_it() {
    let server = Server::start();
    let part = "/share/m/x.new.part";
    let offer = server.request("OPTIONS", part, "", b"");
    assert_eq!(offer.header("pitstop-append"), Some("4194304"));
    let whole = server.request("OPTIONS", "/share/m/x", "", b"");
    assert_eq!(whole.header("pitstop-append"), None);

    let first = server.request("PUT", part, "Content-Range: bytes 0-3/*\r\n", b"abcd");
    assert_eq!(first.status, 201, "{first:?}");
    let tag = first.header("etag").unwrap().to_owned();
    let next = "Content-Range: bytes 4-6/*\r\n";
    assert_eq!(server.request("PUT", part, next, b"efg").status, 428);
    let bound = format!("{next}If-Match: {tag}\r\n");
    let second = server.request("PUT", part, &bound, b"efg");
    assert_eq!(second.status, 204, "{second:?}");
    assert_eq!(server.get(part).body, b"abcdefg");
    assert_eq!(server.get(part).header("etag"), second.header("etag"));
    // The file is not any more what the first answer spoke of.
    assert_eq!(server.request("PUT", part, &bound, b"efg").status, 412);
    let tag = second.header("etag").unwrap();
    for (range, body, status) in [
        ("bytes 9-9/*", &b"z"[..], 416),
        ("bytes 7-9/*", b"z", 400),
        ("bytes 7-7/8", b"z", 400),
    ] {
        let headers = format!("Content-Range: {range}\r\nIf-Match: {tag}\r\n");
        let answer = server.request("PUT", part, &headers, body);
        assert_eq!(answer.status, status, "{range}: {answer:?}");
    }
    let not_a_part = server.request("PUT", "/share/m/x", "Content-Range: bytes 0-0/*\r\n", b"a");
    assert_eq!(not_a_part.status, 400);
    assert_eq!(server.get(part).body, b"abcdefg");

    let digest = server.request("HEAD", part, "Pitstop-Digest: bytes=2-4\r\n", b"");
    let expected = blake3::hash(b"cde").to_hex();
    assert_eq!(digest.header("pitstop-digest"), Some(expected.as_str()));
    let beyond = server.request("HEAD", part, "Pitstop-Digest: bytes=2-7\r\n", b"");
    assert_eq!(beyond.status, 416);
    // What is there beyond a segment's beginning is cut off.
    let back = format!("Content-Range: bytes 2-2/*\r\nIf-Match: {tag}\r\n");
    assert_eq!(server.request("PUT", part, &back, b"X").status, 204);
    assert_eq!(server.get(part).body, b"abX");
}

#[test]
fn an_upload_goes_on_where_one_broke_off() {
    let server = Server::start();
    let client = HttpClient::new(Settings::default()).unwrap();
    let url = format!("http://{}/share/", server.http).parse().unwrap();
    let share = HttpShare::new(&url, &client);
    let bytes: Vec<u8> = (0..2_500_000u32).flat_map(u32::to_le_bytes).collect();
    fs::create_dir(server.path("share/m")).unwrap();
    let left = [&bytes[..5_000_000], b"and something else"].concat();
    fs::write(server.path("share/m/x.part"), left).unwrap();
    let mut pending = share.create("m/x").unwrap();
    pending.write_all(&bytes).unwrap();
    pending.finish().unwrap();
    assert!(server.get("/share/m/x").body == bytes, "the bytes differ");
    assert!(!server.path("share/m/x.part").exists());
}
