//! `pitstop tree get USER@HOST NAME`: a machine's system becomes an image here, over the system's ssh. This program goes there
//! through the same connection, and its file is removed before it does anything.

use super::store::Where;
use crate::commands::place::encrypted::EncryptFor;
use crate::commands::place::reporter;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::members::{begins_like_indexed, u32_at};
use pitstop_trees::{Meta, TreeImage};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop tree get root@golden web
  pitstop tree get admin@golden web --exclude '/srv/*' --ssh-option Port=2222

Who is not root there needs sudo without a password. Nothing is installed there, and nothing stays.")]
pub struct Args {
    /// Whom to log in as, and where
    #[arg(value_name = "USER@HOST")]
    host: String,
    /// A NAME on the share, a path or an `http(s)://` URL
    image: String,
    /// The root of a system there, or any folder
    #[arg(long, default_value = "/", value_name = "DIR")]
    from: String,
    /// Leave out what matches; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Keep what is one machine's alone: host keys, machine-id, leases, seeds
    #[arg(long)]
    keep_identity: bool,
    /// Allow that files under /etc, /usr and /boot change while they are read
    #[arg(long)]
    allow_changed: bool,
    /// An option of ssh, as in its -o; may be repeated
    #[arg(long, value_name = "OPTION")]
    ssh_option: Vec<String>,
    /// The pitstop that is sent [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    encrypt: EncryptFor,
    #[command(flatten)]
    place: Where,
}

/// Takes so many bytes as a program from its input, and is it. The open file outlives its name, so nothing stays whatever
/// happens. Some machines forbid programs in one of these folders.
const RECEIVE: &str = r#"
umask 077
for d in /run /dev/shm /var/tmp /tmp; do
  f=$(mktemp "$d/pitstop.XXXXXX" 2>/dev/null) || continue
  printf '#!/bin/sh\nexit 0\n' >"$f" && chmod 700 "$f" && "$f" 2>/dev/null && break
  rm -f "$f"; f=
done
[ -n "$f" ] || { echo "pitstop: error: no folder here takes a program" >&2; exit 1; }
trap 'rm -f "$f"' EXIT HUP INT TERM
head -c "$size" >"$f"
exec 3<"$f"
rm -f "$f"
[ "$(id -u)" != 0 ] || exec /proc/self/fd/3 "$@" </dev/null
# sudo closes what is open: this shell holds it.
sudo -n "/proc/$$/fd/3" "$@" </dev/null
"#;

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.host.starts_with('-') {
        bail!("{:?} is no USER@HOST", args.host);
    }
    let image = args
        .place
        .new_image(&args.image, args.force, &args.encrypt)?;
    let path = match &args.program {
        Some(path) => path.clone(),
        None => PathBuf::from("/proc/self/exe"),
    };
    let mut program = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let size = program.metadata().context("looking at the program")?.len();
    let reporter = reporter();
    if !is_static(&program)? {
        reporter.warn(format!(
            "this pitstop is not static: {} needs the same libraries (--program names another one)",
            args.host
        ));
    }
    image.write(|out| {
        let mut child = connect(args, size)?;
        let got = receive(&mut child, &mut program, out);
        // Whatever was sent or received, ssh has the last word of what went wrong.
        let status = child.wait().context("waiting for ssh")?;
        if !status.success() {
            bail!(
                "{}: the capture over ssh ended with {status}; what it said stands above",
                args.host
            );
        }
        got
    })?;
    image.announce(&reporter);
    Ok(())
}

fn connect(args: &Args, size: u64) -> anyhow::Result<Child> {
    let mut words = vec![
        "pitstop",
        "tree",
        "capture",
        args.from.as_str(),
        "/dev/stdout",
    ];
    for pattern in &args.exclude {
        words.extend(["--exclude", pattern]);
    }
    if args.keep_identity {
        words.push("--keep-identity");
    }
    if args.allow_changed {
        words.push("--allow-changed");
    }
    // The program's own name is what the script puts in front.
    let quoted: Vec<String> = words[1..].iter().map(|word| quote(word)).collect();
    let script = format!("size={size}; set -- {}; {RECEIVE}", quoted.join(" "));
    let mut ssh = Command::new("ssh");
    for option in &args.ssh_option {
        ssh.args(["-o", option]);
    }
    ssh.args([
        "-T",
        &args.host,
        &format!("exec /bin/sh -c {}", quote(&script)),
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .context("running ssh: is it installed?")
}

/// As one word of a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The first byte of every image (RFC 1952).
const GZIP: u8 = 0x1f;

/// Sends the program, and takes the image, which is then looked at from its end.
fn receive(
    child: &mut Child,
    program: &mut File,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Meta> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut stdin = stdin.context("the input of ssh")?;
    let mut stdout = stdout.context("the output of ssh")?;
    io::copy(program, &mut stdin).context("sending the program over ssh")?;
    drop(stdin);
    let mut tail = Tail::default();
    let mut buffer = vec![0; 1 << 20];
    let mut begins = true;
    // Taken to its end all the same: whoever is cut off there has another reason to fail.
    let mut noise = None;
    loop {
        let read = stdout.read(&mut buffer).context("reading from ssh")?;
        if read == 0 {
            break;
        }
        if begins && buffer[0] != GZIP {
            let said = String::from_utf8_lossy(&buffer[..read]);
            let line = said.lines().next().unwrap_or_default();
            noise = Some(line.chars().take(80).collect::<String>());
        }
        begins = false;
        out.write_all(&buffer[..read])
            .context("writing the image")?;
        tail.add(&buffer[..read]);
    }
    if let Some(noise) = noise {
        bail!(
            "what came over ssh is no image, and begins with {noise:?}: a file like .bashrc prints that there, also where nobody logs in"
        );
    }
    let image = TreeImage::open(&tail).context("what came over ssh")?;
    Ok(image.meta_beside())
}

/// Whether a program needs no interpreter, as a dynamic one does (elf(5), `PT_INTERP`).
fn is_static(program: &File) -> anyhow::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut head = vec![0; 4096];
    let length = program
        .read_at(&mut head, 0)
        .context("reading the program")?;
    let word = |at: usize, size: usize| {
        let bytes = head[..length].get(at..at + size).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0usize, |all, byte| all << 8 | usize::from(*byte))
    };
    let (table, entry, count) = (word(32, 8), word(54, 2), word(56, 2));
    Ok((0..count).all(|number| word(table + number * entry, 4) != 3))
}

/// The end of a stream, where the index is, and how long it was: an image of which only the end can be read. Members with data
/// say how long they are, and are let go; what follows the last of them is kept.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    size: u64,
    /// Where the next member begins; nothing before it is of use.
    next: u64,
    /// What is no member with data has come.
    is_index: bool,
}

/// Bytes before the data of a member (docs/image-format.md).
const HEADER: usize = 20;

/// The size of the member with data that begins so; one with a piece of the index has more in its header.
fn data_member(header: &[u8]) -> Option<u32> {
    let alone = begins_like_indexed(header) && header[10..12] == [8, 0];
    alone.then(|| u32_at(header, 16))?.filter(|size| *size > 0)
}

/// The largest index that is looked for.
const TAIL: usize = 256 << 20;

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        while !self.is_index && self.let_go() {
            let Some(header) = self.bytes.get(..HEADER) else {
                return;
            };
            match data_member(header) {
                Some(size) => self.next += u64::from(size),
                None => self.is_index = true,
            }
        }
        // Cut in large steps, so that nothing is moved for each piece.
        if self.bytes.len() > TAIL + (64 << 20) {
            self.bytes.drain(..self.bytes.len() - TAIL);
        }
    }

    /// Drops what is before the next member; whether that begins here.
    fn let_go(&mut self) -> bool {
        let start = self.size - self.bytes.len() as u64;
        let before = usize::try_from(self.next - start).unwrap_or(usize::MAX);
        self.bytes.drain(..before.min(self.bytes.len()));
        self.size >= self.next
    }
}

impl pitstop_imaging::source::ReadAt for Tail {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let start = self.size - self.bytes.len() as u64;
        let from = at
            .checked_sub(start)
            .and_then(|from| usize::try_from(from).ok());
        let bytes = from.and_then(|from| self.bytes.get(from..from.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl pitstop_imaging::image::ImageSource for Tail {
    fn name(&self) -> &'static str {
        "the image"
    }

    fn stream_from(&self, _offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_in_a_shell() {
        assert_eq!(quote("/srv/it's *"), r"'/srv/it'\''s *'");
    }

    #[test]
    fn the_end_of_a_stream_is_kept() {
        use pitstop_imaging::source::ReadAt;
        let mut tail = Tail::default();
        tail.add(b"abc");
        tail.add(b"def");
        assert_eq!(tail.bytes_at(2, 4).unwrap(), b"cdef");
        assert!(tail.bytes_at(3, 4).is_err());
    }

    #[test]
    fn of_a_stream_of_members_only_what_follows_them_is_kept() {
        use pitstop_imaging::source::ReadAt;
        // As members with data begin (docs/image-format.md), with their size at the end of the header.
        let member = |size: u32| {
            let mut member = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 8, 0, b'P', b'S', 4, 0];
            member.extend_from_slice(&size.to_le_bytes());
            member.resize(usize::try_from(size).unwrap(), 7);
            member
        };
        let end = b"what is no member, and is the index".repeat(3);
        let stream = [member(5000), member(70_000), member(20), end.clone()].concat();
        for piece in [1, 19, 21, 4096, 1 << 20] {
            let mut tail = Tail::default();
            for bytes in stream.chunks(piece) {
                tail.add(bytes);
                assert!(tail.bytes.len() < piece + 4096);
            }
            assert_eq!(tail.size, stream.len() as u64);
            assert_eq!(tail.bytes, end);
            let at = stream.len() as u64 - end.len() as u64;
            assert_eq!(tail.bytes_at(at, end.len()).unwrap(), end);
        }
    }
}
