//! TFTP packets as bytes (RFC 1350 5, options RFC 2347).

use std::fmt;

/// What a block holds when no `blksize` was agreed on (RFC 1350 2).
pub const DEFAULT_BLOCK: usize = 512;

/// The largest `blksize` there is (RFC 2348).
pub const LARGEST_BLOCK: usize = 65464;

/// The largest request (RFC 2347).
const LARGEST_REQUEST: usize = 512;

/// Error codes (RFC 1350 appendix, RFC 2347).
pub mod code {
    pub const UNDEFINED: u16 = 0;
    pub const NOT_FOUND: u16 = 1;
    pub const ACCESS: u16 = 2;
    pub const FULL: u16 = 3;
    pub const ILLEGAL: u16 = 4;
    pub const UNKNOWN_ID: u16 = 5;
    pub const OPTIONS: u16 = 8;
}

/// Read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// A request for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub direction: Direction,
    /// As it came, in whatever encoding.
    pub file: Vec<u8>,
    /// `octet` or `netascii`, in lower case.
    pub mode: String,
    /// Names in lower case, in the order they came.
    pub options: Vec<(String, String)>,
}

impl Request {
    /// The file's name. Some old boot ROMs put a byte 0xFF behind it, which no UTF-8 has.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn name(&self) -> Result<&str, Malformed> {
        let end = self
            .file
            .iter()
            .rposition(|b| *b != 0xff)
            .map_or(0, |at| at + 1);
        std::str::from_utf8(&self.file[..end]).map_err(|_| Malformed("the name is not UTF-8"))
    }

    /// The value of an option by its lower-case name.
    pub fn option(&self, name: &str) -> Option<&str> {
        value(&self.options, name)
    }
}

/// The value of an option by its lower-case name.
pub fn value<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    options
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Request(Request),
    Data { block: u16, data: Vec<u8> },
    Ack(u16),
    Error { code: u16, message: String },
    OptionAck(Vec<(String, String)>),
}

/// A datagram that is no TFTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl std::error::Error for Malformed {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a TFTP packet: {}", self.0)
    }
}

impl Packet {
    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is not one of the six packets, or a request is larger than RFC 2347 allows.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (opcode, rest) = number(bytes)?;
        match opcode {
            1 | 2 if bytes.len() > LARGEST_REQUEST => Err(Malformed("the request is too long")),
            1 => request(Direction::Read, rest),
            2 => request(Direction::Write, rest),
            3 => {
                let (block, data) = number(rest)?;
                if data.len() > LARGEST_BLOCK {
                    return Err(Malformed("the block is too large"));
                }
                Ok(Packet::Data {
                    block,
                    data: data.to_vec(),
                })
            }
            4 => Ok(Packet::Ack(number(rest)?.0)),
            5 => {
                let (code, rest) = number(rest)?;
                // Some servers leave out the closing zero.
                let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
                let message = String::from_utf8_lossy(&rest[..end]).into_owned();
                Ok(Packet::Error { code, message })
            }
            6 => Ok(Packet::OptionAck(options(rest)?)),
            _ => Err(Malformed("unknown opcode")),
        }
    }

    /// The datagram. Zero bytes within texts end the texts there.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Packet::Request(request) => {
                let opcode: u16 = match request.direction {
                    Direction::Read => 1,
                    Direction::Write => 2,
                };
                bytes.extend(opcode.to_be_bytes());
                put(&mut bytes, &request.file);
                put(&mut bytes, &request.mode);
                for (name, value) in &request.options {
                    put(&mut bytes, name);
                    put(&mut bytes, value);
                }
            }
            Packet::Data { block, data } => {
                bytes.extend(3u16.to_be_bytes());
                bytes.extend(block.to_be_bytes());
                bytes.extend(data);
            }
            Packet::Ack(block) => {
                bytes.extend(4u16.to_be_bytes());
                bytes.extend(block.to_be_bytes());
            }
            Packet::Error { code, message } => {
                bytes.extend(5u16.to_be_bytes());
                bytes.extend(code.to_be_bytes());
                put(&mut bytes, message);
            }
            Packet::OptionAck(options) => {
                bytes.extend(6u16.to_be_bytes());
                for (name, value) in options {
                    put(&mut bytes, name);
                    put(&mut bytes, value);
                }
            }
        }
        bytes
    }
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    match bytes {
        [high, low, rest @ ..] => Ok((u16::from_be_bytes([*high, *low]), rest)),
        _ => Err(Malformed("it is too short")),
    }
}

fn put(bytes: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    bytes.extend(text.as_ref().iter().take_while(|b| **b != 0));
    bytes.push(0);
}

/// The bytes up to a zero, and what follows it.
fn terminated(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = bytes
        .iter()
        .position(|b| *b == 0)
        .ok_or(Malformed("a text has no end"))?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn text(bytes: &[u8]) -> Result<(String, &[u8]), Malformed> {
    let (text, rest) = terminated(bytes)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"))?;
    Ok((text.to_owned(), rest))
}

fn request(direction: Direction, bytes: &[u8]) -> Result<Packet, Malformed> {
    let (file, rest) = terminated(bytes)?;
    let (mode, rest) = text(rest)?;
    Ok(Packet::Request(Request {
        direction,
        file: file.to_owned(),
        mode: mode.to_ascii_lowercase(),
        options: options(rest)?,
    }))
}

/// Pairs of texts up to the end; some boot ROMs pad the packet with zeros, which end the list.
fn options(mut bytes: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut options = Vec::new();
    while bytes.iter().any(|b| *b != 0) {
        let (name, rest) = text(bytes)?;
        let (value, rest) = text(rest)?;
        options.push((name.to_ascii_lowercase(), value));
        bytes = rest;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_with_options_is_read_whatever_its_case() {
        let bytes = b"\0\x01hosts/x.toml\0OCTET\0BlkSize\x001428\0tsize\x000\0";
        let Ok(Packet::Request(request)) = Packet::parse(bytes) else {
            panic!("not a request")
        };
        assert_eq!(
            (request.name(), request.mode.as_str()),
            (Ok("hosts/x.toml"), "octet")
        );
        assert_eq!(request.option("blksize"), Some("1428"));
        assert_eq!(request.option("windowsize"), None);
    }

    #[test]
    fn what_is_no_packet_is_said_to_be_none() {
        for (bytes, why) in [
            (&b""[..], "too short"),
            (b"\0\x09", "opcode"),
            (b"\0\x01file", "no end"),
            (b"\0\x01x\0\xff\0", "UTF-8"),
            (b"\0\x04\0", "too short"),
            (&[&b"\0\x01"[..], &[b'a'; 600]].concat(), "too long"),
        ] {
            let error = Packet::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{bytes:?}: {error}");
        }
        let unterminated = Packet::parse(b"\0\x05\0\x01gone");
        assert_eq!(
            unterminated,
            Ok(Packet::Error {
                code: code::NOT_FOUND,
                message: "gone".into()
            })
        );
    }

    #[test]
    fn a_name_loses_what_old_boot_roms_put_behind_it() {
        for (file, name) in [
            (&b"pxelinux.0\xff"[..], Some("pxelinux.0")),
            (b"pxelinux.0\xff\xff", Some("pxelinux.0")),
            (b"\xff", Some("")),
            (b"caf\xe9.0", None),
            (b"\xffx", None),
        ] {
            let bytes = [b"\0\x01", file, b"\0octet\0"].concat();
            let Ok(Packet::Request(request)) = Packet::parse(&bytes) else {
                panic!("not a request")
            };
            assert_eq!(request.name().ok(), name);
        }
    }

    fn packets() -> impl Strategy<Value = Packet> {
        let options = prop::collection::vec(("[a-z]{1,8}", "[0-9]{1,5}"), 0..4);
        prop_oneof![
            ("[a-z/.]{1,40}", options.clone(), any::<bool>()).prop_map(|(file, options, read)| {
                let direction = if read {
                    Direction::Read
                } else {
                    Direction::Write
                };
                let mode = "octet".into();
                Packet::Request(Request {
                    direction,
                    file: file.into_bytes(),
                    mode,
                    options,
                })
            }),
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..1500))
                .prop_map(|(block, data)| Packet::Data { block, data }),
            any::<u16>().prop_map(Packet::Ack),
            (any::<u16>(), "[a-z ]{0,40}")
                .prop_map(|(code, message)| Packet::Error { code, message }),
            options.prop_map(Packet::OptionAck),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(packet in packets()) {
            prop_assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
        }

        #[test]
        fn noise_is_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..700)) {
            if let Ok(packet) = Packet::parse(&noise) {
                if let Packet::Request(request) = &packet {
                    let name = request.name();
                    prop_assert!(name.is_err() || request.file.starts_with(name.unwrap_or_default().as_bytes()));
                }
                prop_assert!(packet.encode().len() <= noise.len() + 8 + noise.len() * 2);
            }
        }
    }
}
