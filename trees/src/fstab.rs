//! Lines of an fstab (fstab(5)), read in one place for all who ask it something.

/// One line that mounts something or uses swap space, its codes for blanks resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// `UUID=…`, `/dev/sda2`, without the quotes that may be in it.
    pub spec: String,
    pub mount: String,
    pub filesystem: String,
    /// `defaults` where there are none.
    pub options: String,
    /// What follows, as it is written.
    pub rest: String,
}

impl Fields {
    /// `None` of a comment and of what is no line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let spec = fields.next().filter(|spec| !spec.starts_with('#'))?;
        let mount = fields.next()?;
        let filesystem = fields.next()?;
        let options = fields.next().unwrap_or("defaults");
        let plain = |field: &str| String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned();
        Some(Self {
            spec: plain(spec).replace('"', ""),
            mount: match plain(mount) {
                mount if mount.len() > 1 => mount.trim_end_matches('/').to_owned(),
                mount => mount,
            },
            filesystem: filesystem.to_owned(),
            options: options.to_owned(),
            rest: fields.collect::<Vec<_>>().join(" "),
        })
    }
}

/// `\040` is a space, as the kernel writes it, too.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &rest[4..] } else { after };
    }
    bytes
}

/// A field as a line has it: blanks part fields.
pub fn escape(field: &str) -> String {
    const CODES: [(char, &str); 4] = [
        ('\\', "\\134"),
        (' ', "\\040"),
        ('\t', "\\011"),
        ('\n', "\\012"),
    ];
    let escape = |text: String, (letter, code): &(char, &str)| text.replace(*letter, code);
    CODES.iter().fold(field.to_owned(), escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_meant() {
        let line = "LABEL=\"my\\040disk\"\t/srv/a\\040b ext4 nofail 0 2";
        let fields = Fields::parse(line).unwrap();
        assert_eq!(fields.spec, "LABEL=my disk");
        assert_eq!((&*fields.mount, &*fields.rest), ("/srv/a b", "0 2"));
        let mount = |mount: &str| Fields::parse(&format!("x {mount} ext4")).unwrap().mount;
        assert_eq!(
            [mount("/boot/"), mount("/"), mount("/a//")],
            ["/boot", "/", "/a"]
        );
        assert_eq!(
            Fields::parse("/swap none swap").unwrap().options,
            "defaults"
        );
        for none in ["", "  ", "# UUID=1 / ext4", "UUID=1 /"] {
            assert_eq!(Fields::parse(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(field in "\\PC{0,40}") {
            let written = escape(&field);
            proptest::prop_assert_eq!(unescape(written.as_bytes()), field.as_bytes());
        }

        #[test]
        fn any_bytes_make_no_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            unescape(&bytes);
            Fields::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
