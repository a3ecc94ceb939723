//! What boot loaders get, over HTTP and TFTP.

mod common;

use common::{Answer, PATIENCE, Server};
use pitstop_transport::fetch::tftp::packet::{Direction, Packet, Request, code};
use pitstop_transport::fetch::tftp::{self, Patience, TftpError};
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

const GRUB: &str = "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";

fn fetch(server: &Server, name: &str) -> Result<Vec<u8>, TftpError> {
    let url = format!("tftp://{}/{name}", server.tftp).parse().unwrap();
    let patience = Patience {
        tries: 20,
        ..Patience::default()
    };
    tftp::get(&url, 64 << 20, &patience)
}

fn text(server: &Server, name: &str) -> String {
    String::from_utf8(fetch(server, name).unwrap()).unwrap()
}

#[test]
fn ipxe_is_sent_to_the_payload_or_to_the_disk() {
    let server = Server::start();
    let entry = server.get("/boot.ipxe").text();
    let url = format!("http://{}", server.http);
    assert!(
        entry.contains(&format!(
            "chain {url}/ipxe?mac=${{mac}}&ip=${{ip}}&uuid=${{uuid}} "
        )),
        "{entry}"
    );
    let ask = "/ipxe?mac=52%3A54%3A00%3A12%3A34%3A56&ip=10.0.2.15&uuid=x";
    let local = server.get(ask).text();
    assert!(
        local.contains("sanboot --no-describe --drive 0x80"),
        "{local}"
    );
    assert!(!local.contains("vmlinuz"), "{local}");
    fs::write(server.path("hosts/01-52-54-00-12-34-56.toml"), "").unwrap();
    let job = server.get(ask).text();
    assert!(
        job.contains(&format!(
            "kernel {url}/boot/vmlinuz initrd=initramfs.img \
             pitstop.host={url}/hosts/01-52-54-00-12-34-56.toml console=ttyS0,115200 console=tty0 \
             BOOTIF=01-${{mac:hexhyp}} ||"
        )),
        "{job}"
    );
    assert!(
        job.contains(&format!(
            "initrd --name initramfs.img {url}/boot/initramfs.img ||"
        )),
        "{job}"
    );

    // The name that the client uses goes into a script: nothing else of it may.
    let mut stream = server.connect();
    std::io::Write::write_all(
        &mut stream,
        b"GET /boot.ipxe HTTP/1.1\r\nHost: x;shell\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let answer = Answer::read(stream).text();
    assert!(!answer.contains("shell"), "{answer}");
}

#[test]
fn the_url_that_is_given_wins_over_the_clients() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("hosts")).unwrap();
    fs::write(root.path().join("hosts/default.toml"), "").unwrap();
    let server = Server::start_in(
        root.path(),
        &["--url", "http://srv:81/", "--append", "quiet"],
    );
    let script = server.get("/ipxe").text();
    assert!(
        script.contains("pitstop.host=http://srv:81/hosts/default.toml quiet BOOTIF"),
        "{script}"
    );
    let config = text(&server, "pxelinux.cfg/default");
    assert!(
        config.contains("APPEND pitstop.host=http://srv:81/hosts/default.toml quiet\n"),
        "{config}"
    );
}

#[test]
fn pxelinux_finds_its_configuration_and_its_files() {
    let server = Server::start();
    fs::write(server.path("boot/vmlinuz"), "kernel").unwrap();
    fs::write(server.path("hosts/0A00020F.toml"), "job").unwrap();
    for prefix in ["", "boot/", "/"] {
        let config = text(&server, &format!("{prefix}pxelinux.cfg/0A00020F"));
        assert!(
            config.contains("KERNEL vmlinuz\n  INITRD initramfs.img\n"),
            "{config}"
        );
        assert!(
            config.contains("/hosts/0A00020F.toml console=ttyS0"),
            "{config}"
        );
        assert_eq!(text(&server, &format!("{prefix}vmlinuz")), "kernel");
    }
    assert_eq!(server.get("/boot/vmlinuz").body, b"kernel");
    assert!(
        server
            .get("/pxelinux.cfg/0A00020F")
            .text()
            .contains("KERNEL vmlinuz")
    );
    assert_eq!(text(&server, "hosts/0A00020F.toml"), "job");
    assert!(text(&server, "pxelinux.cfg/default").contains("LOCALBOOT"));
    assert!(text(&server, "autoexec.ipxe").starts_with("#!ipxe\n"));
    for absent in [
        "pxelinux.cfg/0A00021",
        "pxelinux.cfg/01-52-54-00-12-34-56",
        "none",
        "hosts/none.toml",
    ] {
        assert!(
            matches!(fetch(&server, absent), Err(TftpError::NotFound)),
            "{absent}"
        );
    }
    // The admin's own wins over the generated default, and gives way to a job.
    fs::create_dir(server.path("boot/pxelinux.cfg")).unwrap();
    for name in ["default", "0A00020F"] {
        fs::write(server.path("boot/pxelinux.cfg").join(name), "own").unwrap();
    }
    assert_eq!(text(&server, "pxelinux.cfg/default"), "own");
    assert!(text(&server, "pxelinux.cfg/0A00020F").contains("KERNEL"));
}

#[test]
fn installed_boot_loaders_are_served() {
    let server = Server::start();
    for (name, path) in [
        ("pxelinux.0", "/usr/lib/PXELINUX/pxelinux.0"),
        ("ldlinux.c32", "/usr/lib/syslinux/modules/bios/ldlinux.c32"),
        ("ipxe.efi", "/usr/lib/ipxe/ipxe.efi"),
        ("shimx64.efi", "/usr/lib/shim/shimx64.efi.signed"),
        ("grubx64.efi", GRUB),
    ] {
        let installed = fs::read(path).expect(
            "this test needs pxelinux, syslinux-common, ipxe, shim-signed and grub-efi-amd64-signed",
        );
        assert!(fetch(&server, name).unwrap() == installed, "{name}");
    }
}

#[test]
fn grub_is_sent_to_the_payload_or_to_the_disk() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["hosts", "boot"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    let server = Server::start_in(root.path(), &["--url", "http://srv:81"]);
    let entry = text(&server, "grub/grub.cfg");
    assert!(
        entry.contains("\nsource $prefix/machine/$net_default_mac/$net_default_ip/$uuid.cfg\n"),
        "{entry}"
    );
    let ask = "grub/machine/52:54:00:12:34:56/10.0.2.15/none.cfg";
    let local = text(&server, ask);
    assert!(
        local.contains("chainloader ($disk)/EFI/debian/shim$cpu.efi"),
        "{local}"
    );
    assert!(!local.contains("vmlinuz"), "{local}");
    fs::write(server.path("hosts/01-52-54-00-12-34-56.toml"), "").unwrap();
    let job = text(&server, ask);
    assert!(
        job.contains(
            "\nlinux /boot/vmlinuz 'pitstop.host=http://srv:81/hosts/01-52-54-00-12-34-56.toml' \
             'console=ttyS0,115200' 'console=tty0' 'BOOTIF=01-52-54-00-12-34-56'\n\
             initrd /boot/initramfs.img\nfi\nboot\n"
        ),
        "{job}"
    );
    // The admin's own wins.
    fs::create_dir(server.path("boot/grub")).unwrap();
    fs::write(server.path("boot/grub/grub.cfg"), "own").unwrap();
    assert_eq!(text(&server, "grub/grub.cfg"), "own");
}

#[test]
fn shim_and_grub_are_there_and_a_machine_without_a_job_is_told_of_none() {
    let root = tempfile::tempdir().unwrap();
    let fleet = "version = 1\n[network.\"127.0.0.0/24\"]\n\
                 [host.pc]\nmac = \"52:54:00:12:34:56\"\nip = \"127.0.0.1\"\n";
    fs::write(root.path().join("fleet.toml"), fleet).unwrap();
    let server = Server::start_in(root.path(), &[]);
    match ask(&server, Direction::Read, "shimx64.efi", "octet", &[]) {
        Packet::Error {
            code: number,
            message,
        } => {
            assert_eq!(number, code::NOT_FOUND);
            assert!(message.contains("no job"), "{message}");
        }
        other => panic!("a machine without a job got {other:?}"),
    }
    // The second one is for who got the first.
    let grub = fs::read(GRUB).expect("this test needs grub-efi-amd64-signed");
    assert!(fetch(&server, "grubx64.efi").unwrap() == grub);
    fs::write(server.path("hosts/01-52-54-00-12-34-56.toml"), "").unwrap();
    let shim = fs::read("/usr/lib/shim/shimx64.efi.signed").expect("this test needs shim-signed");
    assert!(fetch(&server, "shimx64.efi").unwrap() == shim);
}

#[test]
fn a_text_is_sent_in_netascii_to_who_asks_so() {
    let server = Server::start();
    fs::write(server.path("boot/motd"), "one\ntwo\n").unwrap();
    let ask = |options: &[(&str, &str)]| ask(&server, Direction::Read, "motd", "NetASCII", options);
    assert_eq!(
        ask(&[]),
        Packet::Data {
            block: 1,
            data: b"one\r\ntwo\r\n".to_vec()
        }
    );
    // How long it will be is not told.
    assert_eq!(
        ask(&[("tsize", "0"), ("blksize", "1024")]),
        Packet::OptionAck(vec![("blksize".into(), "1024".into())])
    );
}

#[test]
fn tftp_paths_do_not_leave_the_root_and_nothing_is_written() {
    let server = Server::start();
    symlink("/etc/hostname", server.path("boot/out")).unwrap();
    symlink("/etc", server.path("hosts/etc")).unwrap();
    fs::write(server.path("share/x"), "x").unwrap();
    for name in [
        "../share/x",
        "boot/../../share/x",
        "..\\share\\x",
        "out",
        "hosts/etc/hostname",
        "/etc/hostname",
        "share/x",
    ] {
        let answer = ask(&server, Direction::Read, name, "octet", &[]);
        assert!(
            matches!(
                answer,
                Packet::Error {
                    code: code::ACCESS | code::NOT_FOUND,
                    ..
                }
            ),
            "{name}: {answer:?}"
        );
    }
    let written = ask(&server, Direction::Write, "boot/vmlinuz", "octet", &[]);
    assert!(
        matches!(
            written,
            Packet::Error {
                code: code::ACCESS,
                ..
            }
        ),
        "{written:?}"
    );
    let mode = ask(&server, Direction::Read, "out", "mail", &[]);
    assert!(
        matches!(
            mode,
            Packet::Error {
                code: code::ILLEGAL,
                ..
            }
        ),
        "{mode:?}"
    );
}

#[test]
fn names_of_old_and_foreign_boot_roms_are_answered() {
    let server = Server::start();
    fs::write(server.path("boot/loader"), "loader").unwrap();
    let raw = |name: &[u8]| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let packet = [b"\0\x01", name, b"\0octet\0"].concat();
        socket.send_to(&packet, server.tftp).unwrap();
        receive(&socket).0
    };
    for name in [&b"loader\xff"[..], b"boot\\loader", b"\\boot\\loader\xff"] {
        let Packet::Data { data, .. } = raw(name) else {
            panic!("{}: {:?}", name.escape_ascii(), raw(name))
        };
        assert_eq!(data, b"loader");
    }
    for (name, why) in [(&b"caf\xe9"[..], "UTF-8"), (b"..\\share\\x", "..")] {
        let Packet::Error { message, .. } = raw(name) else {
            panic!("{}: {:?}", name.escape_ascii(), raw(name))
        };
        assert!(message.contains(why), "{message}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"\0\x01loader\0octet", server.tftp).unwrap();
    assert!(matches!(receive(&socket).0, Packet::Error { .. }));
    let page = server.get("/journal").text();
    for line in [
        "caf\\xe9 refused",
        "TFTP request refused: not a TFTP packet",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[test]
fn a_machine_that_was_reset_is_served_at_once() {
    let server = Server::start();
    fs::write(server.path("boot/x"), vec![7; 5000]).unwrap();
    let socket = request(&server, Direction::Read, "x", "octet", &[]);
    let (_, old) = receive(&socket);
    socket.send_to(&Packet::Ack(1).encode(), old).unwrap();
    receive(&socket);
    // Switched off and on: the same port, the same question, sent twice as by a slow network.
    let again = Packet::Request(Request {
        direction: Direction::Read,
        file: b"x".to_vec(),
        mode: "octet".into(),
        options: Vec::new(),
    });
    for _ in 0..2 {
        socket.send_to(&again.encode(), server.tftp).unwrap();
    }
    let (mut got, mut new) = (0, None);
    while got < 5000 {
        let (packet, from) = receive(&socket);
        // On a busy computer the second question may be read when the first one is answered and acknowledged: it then
        // begins a transfer that nobody takes part in.
        if from == old || *new.get_or_insert(from) != from {
            continue;
        }
        let Packet::Data { block, data } = packet else {
            panic!("not data")
        };
        socket.send_to(&Packet::Ack(block).encode(), from).unwrap();
        got += data.len();
    }
    common::wait_until("the old transfer's end", || {
        server
            .get("/journal")
            .text()
            .contains("stopped by the client: it was reset")
    });
}

fn ask(
    server: &Server,
    direction: Direction,
    file: &str,
    mode: &str,
    options: &[(&str, &str)],
) -> Packet {
    receive(&request(server, direction, file, mode, options)).0
}

fn request(
    server: &Server,
    direction: Direction,
    file: &str,
    mode: &str,
    options: &[(&str, &str)],
) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let options = options.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    let packet = Packet::Request(Request {
        direction,
        file: file.as_bytes().to_owned(),
        mode: mode.into(),
        options: options.collect(),
    });
    socket.send_to(&packet.encode(), server.tftp).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Packet, std::net::SocketAddr) {
    let mut buffer = vec![0; 65536];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (Packet::parse(&buffer[..length]).unwrap(), from)
}

/// Nothing is sent again because a busy computer lets the client wait: what comes twice would be counted twice.
const LONG: (&str, &str) = ("timeout", "255");

/// A client that loses packets on purpose.
#[test]
fn a_window_begins_again_where_the_client_lost_a_block() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(server.path("boot/x"), &bytes).unwrap();
    let options = [
        ("blksize", "100"),
        ("windowsize", "7"),
        ("tsize", "0"),
        LONG,
    ];
    let socket = request(&server, Direction::Read, "x", "octet", &options);
    let (agreed, from) = receive(&socket);
    let expected = [
        ("blksize", "100"),
        ("windowsize", "7"),
        ("tsize", "10000"),
        LONG,
    ];
    assert_eq!(
        agreed,
        Packet::OptionAck(expected.map(|(n, v)| (n.into(), v.into())).to_vec())
    );
    let (mut got, mut last, mut seen) = (Vec::new(), 0, 0);
    // 101 blocks: the last one is empty, for the file fills the one before.
    while last < 101 {
        socket.send_to(&Packet::Ack(last).encode(), from).unwrap();
        let first = last + 1;
        for expected in first..(first + 7).min(102) {
            let (Packet::Data { block, data }, _) = receive(&socket) else {
                panic!("not data")
            };
            assert_eq!(block, expected);
            seen += 1;
            // Every eleventh gets lost, and what comes behind it is out of order.
            if seen % 11 != 0 && block == last + 1 {
                got.extend_from_slice(&data);
                last = block;
            }
        }
    }
    socket.send_to(&Packet::Ack(last).encode(), from).unwrap();
    assert!(got == bytes);
}

/// As UEFI's client does: it says the last good number again for each packet that it cannot use, and when nothing comes.
#[test]
fn a_client_that_answers_to_each_block_out_of_order_gets_all() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(server.path("boot/x"), &bytes).unwrap();
    for window in [2, 4, 8, 16] {
        let words = window.to_string();
        let options = [("blksize", "500"), ("windowsize", &*words), LONG];
        let socket = request(&server, Direction::Read, "x", "octet", &options);
        let (_, from) = receive(&socket);
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let (mut got, mut last, mut came, mut in_order) = (Vec::new(), 0u16, 0, 0);
        let (began, mut most) = (Instant::now(), 601 * 6);
        let say = |last| socket.send_to(&Packet::Ack(last).encode(), from).unwrap();
        say(last);
        let mut buffer = [0; 1024];
        loop {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else {
                assert!(began.elapsed() < PATIENCE, "window {window}: at {last}");
                // A busy computer may be why: then the window comes twice.
                most += 2 * window;
                say(last);
                continue;
            };
            let Packet::Data { block, data } = Packet::parse(&buffer[..length]).unwrap() else {
                panic!("window {window}: not data at {last}")
            };
            came += 1;
            if came % 53 == 0 {
                continue;
            }
            if block != last + 1 {
                in_order = 0;
                say(last);
                continue;
            }
            last = block;
            in_order += 1;
            got.extend_from_slice(&data);
            if data.len() < 500 {
                break;
            }
            if in_order == window {
                in_order = 0;
                say(last);
            }
        }
        say(last);
        assert!(got == bytes, "window {window}");
        // It and the server lose step at each loss, and blocks come again. Without a limit they would become more and more.
        assert!(came < most, "window {window}: {came} packets");
    }
}

#[test]
fn block_numbers_wrap() {
    let server = Server::start();
    // Of 8 bytes each, more blocks than numbers.
    let bytes: Vec<u8> = (0..70_000u64).flat_map(u64::to_le_bytes).collect();
    fs::write(server.path("boot/x"), &bytes).unwrap();
    let options = [("blksize", "8"), ("windowsize", "64"), LONG];
    let socket = request(&server, Direction::Read, "x", "octet", &options);
    let (_, from) = receive(&socket);
    socket.send_to(&Packet::Ack(0).encode(), from).unwrap();
    let mut got = Vec::with_capacity(bytes.len());
    for count in 1u64.. {
        let (Packet::Data { block, data }, _) = receive(&socket) else {
            panic!("not data")
        };
        assert_eq!(u64::from(block), count % 65536);
        got.extend_from_slice(&data);
        let end = data.len() < 8;
        if count % 64 == 0 || end {
            socket.send_to(&Packet::Ack(block).encode(), from).unwrap();
        }
        if end {
            break;
        }
    }
    assert!(got == bytes);
}

#[test]
fn curl_and_many_clients_at_once_get_the_same_bytes() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..250_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(server.path("boot/initramfs.img"), &bytes).unwrap();
    let curl = Command::new("curl")
        .args(["-sS", "--tftp-blksize", "1468"])
        .arg(format!("tftp://{}/initramfs.img", server.tftp))
        .output()
        .expect("this test needs curl");
    assert!(
        curl.status.success() && curl.stdout == bytes,
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert!(fetch(&server, "initramfs.img").unwrap() == bytes));
        }
    });
}

#[test]
fn noise_does_not_disturb_the_server() {
    let server = Server::start();
    fs::write(server.path("boot/x"), "x").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..250u8 {
        let noise: Vec<u8> = (0..length).map(|i| (i / 3 + length / 2) % 7).collect();
        socket.send_to(&noise, server.tftp).unwrap();
    }
    assert_eq!(fetch(&server, "x").unwrap(), b"x");
}
