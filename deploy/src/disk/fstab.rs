//! `/etc/fstab` (fstab(5)): read, and changed where the disk is not what it says.

use pitstop_trees::fstab::{Fields, escape};
use std::fmt::Write as _;

/// What a line can name a filesystem or swap space by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub uuid: String,
    pub label: String,
    /// As in `PARTUUID=`.
    pub part_id: String,
    /// The name in a GPT.
    pub part_name: String,
    /// Names below `/dev` that it has on every machine, as volumes and arrays do.
    pub nodes: Vec<String>,
}

/// A filesystem or swap space that the disk has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is mounted; of swap space, nothing.
    pub mount: String,
    pub filesystem: String,
    pub names: Names,
    /// Of Btrfs: the subvolume that is mounted.
    pub subvolume: String,
    /// Whether it gets a line where there is none.
    pub is_new: bool,
}

/// One line that mounts something or uses swap space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub spec: String,
    pub mount: String,
    pub filesystem: String,
    pub options: String,
    rest: String,
}

/// A table, with its comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fstab {
    lines: Vec<(String, Option<Line>)>,
}

/// How a line names what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// By something that it has.
    Right,
    /// By something that it has not.
    Wrong,
    /// By a device, which may have another name on the next machine.
    Device,
    /// By nothing on a disk: a network, a file, memory.
    Elsewhere,
}

/// How `spec` (`UUID=…`, `/dev/sda2`) names what has `names`.
pub fn means(spec: &str, names: &Names) -> Means {
    let is = |name: &str, value: &str| {
        let same = !name.is_empty() && name.eq_ignore_ascii_case(value);
        if same { Means::Right } else { Means::Wrong }
    };
    let by = [
        ("UUID=", "/dev/disk/by-uuid/", &names.uuid),
        ("LABEL=", "/dev/disk/by-label/", &names.label),
        ("PARTUUID=", "/dev/disk/by-partuuid/", &names.part_id),
        ("PARTLABEL=", "/dev/disk/by-partlabel/", &names.part_name),
    ];
    for (tag, link, name) in by {
        let value = spec.strip_prefix(tag);
        if let Some(value) = value.or_else(|| spec.strip_prefix(link)) {
            return is(name, value);
        }
    }
    if names.nodes.iter().any(|node| node == spec) {
        return Means::Right;
    }
    if spec.starts_with("/dev/") {
        return Means::Device;
    }
    Means::Elsewhere
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let Fields {
            spec,
            mount,
            filesystem,
            options,
            rest,
        } = Fields::parse(text)?;
        Some(Self {
            spec,
            mount,
            filesystem,
            options,
            rest,
        })
    }

    pub fn is_swap(&self) -> bool {
        self.filesystem == "swap"
    }

    /// The value of an option that has one: `subvol=@`.
    pub fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.split(',');
        options.find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Options of Btrfs that matter while files are written.
    pub fn compression(&self) -> Vec<String> {
        let options = self.options.split(',');
        let of_btrfs = options.filter(|_| self.filesystem == "btrfs");
        of_btrfs
            .filter(|option| option.starts_with("compress"))
            .map(str::to_owned)
            .collect()
    }

    /// Whether the system waits for it when it boots.
    fn is_awaited(&self) -> bool {
        let not = |option| matches!(option, "noauto" | "nofail");
        !self.options.split(',').any(not)
    }

    fn means(&self, names: &Names) -> Means {
        means(&self.spec, names)
    }

    fn written(&self) -> String {
        let rest = if self.rest.is_empty() {
            "0 0"
        } else {
            &self.rest
        };
        format!(
            "{}\t{}\t{}\t{}\t{rest}",
            escape(&self.spec),
            escape(&self.mount),
            self.filesystem,
            self.options
        )
    }
}

impl Fstab {
    pub fn parse(text: &str) -> Self {
        let lines = text.lines();
        Self {
            lines: lines
                .map(|line| (line.to_owned(), Line::parse(line)))
                .collect(),
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter_map(|(_, line)| line.as_ref())
    }

    /// The line that mounts something at `mount`.
    pub fn at(&self, mount: &str) -> Option<&Line> {
        self.lines().find(|line| line.mount == mount)
    }

    /// Makes it right for a disk that has `parts`; `merged` are mount points whose files are on the filesystem above them. Returns
    /// what was changed, and what is not there, a sentence each.
    pub fn adjust(&mut self, parts: &[Part], merged: &[String]) -> Vec<String> {
        let mut said = Vec::new();
        for (text, line) in &mut self.lines {
            let Some(line) = line else { continue };
            let before = line.clone();
            match parts.iter().find(|part| part.is_of(line)) {
                Some(part) => line.take(part),
                None if merged.contains(&line.mount) => {
                    said.push(format!(
                        "/etc/fstab: {} has no filesystem of its own on this disk: its line is made a comment",
                        line.mount
                    ));
                    *text = format!("# {text}");
                    continue;
                }
                None => said.extend(line.is_missing(parts)),
            }
            if *line != before {
                said.push(format!(
                    "/etc/fstab: {} is {} ({}) now, it was {} ({})",
                    line.place(),
                    line.spec,
                    line.filesystem,
                    before.spec,
                    before.filesystem
                ));
                *text = line.written();
            }
        }
        let has = |part: &&Part| self.lines().any(|line| part.is_of(line));
        let missing = parts.iter().filter(|part| part.is_new && !has(part));
        for line in missing.map(Part::line).collect::<Vec<_>>() {
            said.push(format!("/etc/fstab: {} gets a line", line.place()));
            self.lines.push((line.written(), None));
        }
        said
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (line, _) in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

impl Line {
    fn place(&self) -> String {
        if self.is_swap() {
            "swap space".into()
        } else {
            self.mount.clone()
        }
    }

    fn take(&mut self, part: &Part) {
        if self.means(&part.names) != Means::Right {
            self.spec = format!("UUID={}", part.names.uuid);
        }
        // `auto` fits all.
        if self.filesystem != part.filesystem && self.filesystem != "auto" && !self.is_swap() {
            self.filesystem.clone_from(&part.filesystem);
            // Options are a filesystem's own.
            self.options = part.options();
        }
        // Subvolumes are the same by name, and have other numbers.
        if part.filesystem == "btrfs" && self.option("subvolid").is_some() {
            let options = self.options.split(',');
            let mut options: Vec<String> = options
                .filter(|option| !option.starts_with("subvolid="))
                .map(str::to_owned)
                .collect();
            if self.option("subvol").is_none() {
                options.push(format!("subvol=/{}", part.subvolume));
            }
            self.options = options.join(",");
        }
    }

    /// What is told of a line for something that this disk does not have.
    fn is_missing(&self, parts: &[Part]) -> Option<String> {
        let on_disk = parts
            .iter()
            .any(|part| self.means(&part.names) == Means::Right);
        let elsewhere = self.means(&Names::default()) == Means::Elsewhere;
        if on_disk || elsewhere || !self.is_awaited() {
            return None;
        }
        Some(format!(
            "/etc/fstab names {} for {}, which this disk does not have: the system waits for it when it boots",
            self.spec,
            self.place()
        ))
    }
}

impl Part {
    fn is_swap(&self) -> bool {
        self.filesystem == "swap"
    }

    fn is_of(&self, line: &Line) -> bool {
        if self.is_swap() {
            return line.is_swap() && line.means(&self.names) == Means::Right;
        }
        self.mount == line.mount
    }

    fn options(&self) -> String {
        match (self.filesystem.as_str(), self.subvolume.as_str()) {
            ("vfat", _) => "umask=0077".into(),
            ("btrfs", subvolume) if !subvolume.is_empty() => format!("subvol=/{subvolume}"),
            ("swap", _) => "sw".into(),
            _ => "defaults".into(),
        }
    }

    fn line(&self) -> Line {
        let rest = match (self.filesystem.as_str(), self.mount.as_str()) {
            ("swap" | "btrfs" | "xfs", _) => "0 0",
            (_, "/") => "0 1",
            _ => "0 2",
        };
        Line {
            spec: format!("UUID={}", self.names.uuid),
            mount: if self.is_swap() {
                "none".into()
            } else {
                self.mount.clone()
            },
            filesystem: self.filesystem.clone(),
            options: self.options(),
            rest: rest.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(mount: &str, filesystem: &str, uuid: &str) -> Part {
        Part {
            mount: mount.into(),
            filesystem: filesystem.into(),
            names: Names {
                uuid: uuid.into(),
                label: format!("l{uuid}"),
                part_id: format!("p{uuid}"),
                part_name: String::new(),
                nodes: Vec::new(),
            },
            subvolume: String::new(),
            is_new: false,
        }
    }

    #[test]
    fn what_is_right_stays_letter_by_letter() {
        let text = "# a comment\nUUID=r   /  ext4 errors=remount-ro 0 1\nLABEL=lb /boot ext4 defaults\n\n\
                    PARTUUID=\"pe\" /boot/efi vfat umask=0077 0 1\ntmpfs /tmp tmpfs defaults 0 0\n\
                    server:/x /net nfs _netdev 0 0\nUUID=gone /data ext4 nofail 0 0\n";
        let mut fstab = Fstab::parse(text);
        let parts = [
            part("/", "ext4", "r"),
            part("/boot", "ext4", "b"),
            part("/boot/efi", "vfat", "e"),
        ];
        assert_eq!(fstab.adjust(&parts, &[]), [""; 0]);
        assert_eq!(fstab.text(), text);
        assert_eq!(fstab.at("/boot").unwrap().spec, "LABEL=lb");
    }

    #[test]
    fn what_the_disk_has_not_is_mended_or_told() {
        let text = "/dev/sda2 / ext4 errors=remount-ro 0 1\nUUID=h /home ext4 noatime 0 2\n\
                    UUID=s none swap sw 0 0\nUUID=d /data xfs defaults 0 2\nUUID=v /var ext4 defaults 0 2";
        let mut fstab = Fstab::parse(text);
        let mut new = part("/srv", "btrfs", "n");
        new.is_new = true;
        new.subvolume = "@srv".into();
        let parts = [part("/", "ext4", "r"), part("/var", "xfs", "v"), new];
        let said = fstab.adjust(&parts, &["/home".into()]);
        assert_eq!(
            fstab.text(),
            "UUID=r\t/\text4\terrors=remount-ro\t0 1\n# UUID=h /home ext4 noatime 0 2\n\
             UUID=s none swap sw 0 0\nUUID=d /data xfs defaults 0 2\nUUID=v\t/var\txfs\tdefaults\t0 2\n\
             UUID=n\t/srv\tbtrfs\tsubvol=/@srv\t0 0\n"
        );
        let all = said.join("\n");
        for wanted in [
            "/ is UUID=r (ext4) now, it was /dev/sda2 (ext4)",
            "/home has no filesystem of its own",
            "names UUID=s for swap space",
            "names UUID=d for /data",
            "/srv gets a line",
        ] {
            assert!(all.contains(wanted), "{wanted}: {all}");
        }
        assert_eq!(said.len(), 6);
    }

    #[test]
    fn subvolumes_are_named_and_not_numbered() {
        let mut fstab = Fstab::parse(
            "UUID=r / btrfs compress=zstd,subvolid=256,subvol=/@ 0 0\nUUID=r /home btrfs subvolid=257 0 0",
        );
        let mut home = part("/home", "btrfs", "r");
        home.subvolume = "@home".into();
        fstab.adjust(&[part("/", "btrfs", "r"), home], &[]);
        assert_eq!(
            fstab.text(),
            "UUID=r\t/\tbtrfs\tcompress=zstd,subvol=/@\t0 0\nUUID=r\t/home\tbtrfs\tsubvol=/@home\t0 0\n"
        );
        assert_eq!(fstab.at("/").unwrap().compression(), ["compress=zstd"]);
    }

    #[test]
    fn blanks_in_a_mount_point_are_written_as_codes() {
        let text = "LABEL=my\\040disk /media ext4 noauto 0 0";
        let mut kept = Fstab::parse(text);
        let mut media = part("/media", "xfs", "m");
        media.names.label = "my disk".into();
        kept.adjust(&[media], &[]);
        assert_eq!(
            kept.text(),
            "LABEL=my\\040disk\t/media\txfs\tdefaults\t0 0\n"
        );
        let mut fstab = Fstab::parse("/dev/sda3 /my\\040data ext4 defaults 0 2");
        assert_eq!(fstab.lines().next().unwrap().mount, "/my data");
        fstab.adjust(&[part("/my data", "ext4", "d")], &[]);
        assert_eq!(fstab.text(), "UUID=d\t/my\\040data\text4\tdefaults\t0 2\n");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_kept_where_nothing_is_known(text in "[ -~\t\n]{0,200}") {
            let mut fstab = Fstab::parse(&text);
            fstab.adjust(&[], &[]);
            let lines: Vec<&str> = text.lines().collect();
            let kept = fstab.text();
            proptest::prop_assert_eq!(kept.lines().collect::<Vec<_>>(), lines);
        }
    }
}
