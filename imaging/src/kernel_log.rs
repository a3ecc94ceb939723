//! The kernel's log from `/dev/kmsg`, as `dmesg` shows it.

use anyhow::Context;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The kernel's default ring holds far less than this.
const MOST_BYTES: usize = 16 << 20;

/// All records that are in the ring now, without waiting for more.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let doing = || format!("reading the kernel log {}", path.display());
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .with_context(doing)?;
    let mut text = String::new();
    // One read gives one record; the kernel's longest is 8 KiB (CONSOLE_EXT_LOG_MAX).
    let mut record = [0; 16 << 10];
    while text.len() < MOST_BYTES {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => text += &line(&String::from_utf8_lossy(&record[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The ring overtook the reader; the next read goes on at its oldest record.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error).with_context(doing),
        }
    }
    Ok(text)
}

/// `6,339,5140900,-;text` (Documentation/ABI/testing/dev-kmsg) to `[    5.140900] text`.
fn line(record: &str) -> String {
    let mut lines = record.lines();
    let first = lines.next().unwrap_or_default();
    let Some((prefix, text)) = first.split_once(';') else {
        return format!("{first}\n");
    };
    let micros: u64 = prefix
        .split(',')
        .nth(2)
        .and_then(|micros| micros.parse().ok())
        .unwrap_or_default();
    // Lines that begin with a space are the device's properties: of no use here.
    format!(
        "[{:5}.{:06}] {text}\n",
        micros / 1_000_000,
        micros % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_looks_as_dmesg_shows_it() {
        assert_eq!(
            line("6,339,5140900,-;sda: sda1 sda2\n SUBSYSTEM=block\n"),
            "[    5.140900] sda: sda1 sda2\n"
        );
        assert_eq!(line("no prefix"), "no prefix\n");
        assert_eq!(line("6,1,x,-;odd"), "[    0.000000] odd\n");
    }

    #[test]
    fn a_missing_log_is_named() {
        let error = read(Path::new("/nonexistent/kmsg")).unwrap_err();
        assert!(format!("{error:#}").starts_with("reading the kernel log /nonexistent/kmsg"));
    }

    proptest::proptest! {
        #[test]
        fn any_record_is_read_without_a_panic(record in "\\PC*") {
            line(&record);
        }
    }
}
