//! Which program has a UDP port, for the message that it is taken.

use std::fs;
use std::path::Path;

/// The program's name and number; `None` where the kernel does not show it to this user.
pub fn of_udp_port(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/self/net/udp").ok()?;
    let wanted: Vec<String> = sockets(&table, port)
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let name = process.file_name();
        let Some(id) = name
            .to_str()
            .filter(|id| id.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        if has_any(&process.path(), &wanted) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {id})", program.trim()));
        }
    }
    None
}

/// The inodes of the sockets on this port, in the kernel's table (proc(5), /proc/net/udp).
fn sockets(table: &str, port: u16) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (_, hex) = words.nth(1)?.split_once(':')?;
        (u16::from_str_radix(hex, 16).ok()? == port).then_some(())?;
        words.nth(7)
    })
}

fn has_any(process: &Path, sockets: &[String]) -> bool {
    let Ok(handles) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    handles.flatten().any(|handle| {
        let target = fs::read_link(handle.path());
        target.is_ok_and(|target| {
            sockets
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_told() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let holder = of_udp_port(port).unwrap();
        assert!(
            holder.ends_with(&format!("(process {})", std::process::id())),
            "{holder}"
        );
        drop(socket);
        assert_eq!(of_udp_port(port), None);
    }

    #[test]
    fn odd_tables_have_no_sockets() {
        for table in [
            "",
            "header\n",
            "header\nx\n 1: zz:0043\n 1: 00:zz 0\n 1: 00:0043",
        ] {
            assert_eq!(sockets(table, 67).count(), 0, "{table:?}");
        }
    }
}
